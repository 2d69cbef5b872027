"""What everything that is called promises of its arguments: they are left alone, and they matter."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn

from sonant.testing import calls, samples
from sonant.testing.calls import Way
from sonant.testing.check import Skipped, require
from sonant.testing.pairing import decoder_for, search_of, utterances
from sonant.testing.subject import D_IN, Subject

_TRAINED: Final = ("preprocessor", "augmentation", "encoder", "decoder", "vocoder", "loss")
_SEEDS: Final = (0, 1, 2)


@torch.no_grad()
def leaves_its_arguments_alone(subject: Subject) -> None:
    """A call changes nothing that it is given, in eval mode or in training: other parts may still need it."""
    for training in (False, True) if subject.spec.kind in _TRAINED else (False,):
        built = subject.build()
        if isinstance(built, nn.Module):
            built.train(training)
        for seed in _SEEDS if training else _SEEDS[:1]:  # in training chance may decide what is done
            torch.manual_seed(seed)
            for way in _all_ways(subject, built, seed, training):
                _check(way, "in training" if training else "")


def _check(way: Way, when: str) -> None:
    before = {name: (copy.deepcopy(value), _writes(value)) for name, value in way.given.items()}
    way.run()
    changed = [name for name, value in way.given.items() if not _unchanged(value, *before[name])]
    what = " ".join(filter(None, (way.name, when)))
    require(not changed, f"{what}{': ' if what else ''}it writes into its {' and '.join(changed)}: compute a new one")


def _writes(value: Any) -> int:
    """How often something wrote into it: a clamp may well have left these numbers as they were, and not others."""
    return value._version if isinstance(value, Tensor) else 0


def _unchanged(value: Any, before: Any, writes: int) -> bool:
    return value.equal(before) and _writes(value) == writes if isinstance(value, Tensor) else bool(value == before)


def _all_ways(subject: Subject, built: Any, seed: int, training: bool) -> Iterator[Way]:
    """How a component of any kind is called: a decoder by its search too, and an encoder piece by piece if it streams."""
    kind = subject.spec.kind
    if kind == "search":
        decoder = decoder_for(subject)
        if decoder is None:
            raise Skipped("no installed decoder can be read by it")
        enc, lens = utterances(seed)
        yield Way.of(partial(built, decoder), enc=enc, lens=lens)
    elif kind in ("tokenizer", "text_frontend"):
        for name in ("decode", "pieces") if kind == "tokenizer" else ("decode",):
            yield Way.of(getattr(built, name), name=name, ids=samples.ids(8, below=built.vocab_size, seed=seed).tolist())
    elif kind == "clusterer":
        yield Way.of(built, embeddings=samples.noise(9, 16, seed=seed))
        yield Way.of(partial(built, n_speakers=3), embeddings=samples.noise(9, 16, seed=seed))
    elif kind == "task":
        batch = calls.recorded(built)
        yield Way(partial(built.infer, batch), {"wav": batch.wav, "lens": batch.lens})
    else:
        yield from calls.ways(subject, built, seed)
    if kind == "decoder" and not training:
        enc, lens = utterances(seed)
        yield Way.of(partial(search_of(built), built), name="read by its search", enc=enc, lens=lens)
    if kind in ("preprocessor", "encoder") and not training and getattr(built, "streams", False):
        name, shape = ("feats", (D_IN,)) if kind == "encoder" else ("wav", ())
        piece, lens = samples.batch((24, 17), *shape, seed=seed)
        states = [built.init_state() for _ in lens]
        yield Way(partial(built.step, piece, lens, states, last=[True, False]), {name: piece, "lens": lens}, "step")


@torch.no_grad()
def another_input_gives_another_result(subject: Subject) -> None:
    """What comes out depends on what goes in."""
    built = subject.build()
    if isinstance(built, nn.Module):
        samples.stir(built)  # some start from zeros, and give nothing else before they are trained
    runs = [calls.ways(subject, built, seed) for seed in _SEEDS]
    for same_way in zip(*runs, strict=True):
        first, *others = (calls.result(subject, way) for way in same_way)
        if not first:
            raise Skipped("returns no tensors")
        what = f"{same_way[0].name}: " if same_way[0].name else ""
        require(
            any(_differ(first, other) for other in others),
            f"{what}{len(_SEEDS)} inputs of different noise give one and the same result: it does not depend on what it is given",
        )


def _differ(found: tuple[Tensor, ...], others: tuple[Tensor, ...]) -> bool:
    """Results that are not finite count as different: what is wrong with them is said elsewhere."""
    return any(not (one.equal(other) and one.isfinite().all()) for one, other in zip(found, others, strict=True))


LEFT_ALONE = (leaves_its_arguments_alone,)
CHECKS = (leaves_its_arguments_alone, another_input_gives_another_result)
