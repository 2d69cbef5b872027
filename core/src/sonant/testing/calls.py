"""Running a component the way its kind is run, on random input."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Any, Final

import torch
from attrs import frozen
from torch import Tensor, nn

from sonant import lengths
from sonant.inputs import Item
from sonant.runtime import Batch
from sonant.testing import samples
from sonant.testing.check import RAISED, Skipped
from sonant.testing.subject import D_IN, VOCAB_SIZE, Subject

Tensors = dict[str, Tensor]
_FRAMES = (120, 75, 41)
SECONDS: Final = (2.0, 1.3, 0.4)
"""Of the recordings that tasks are shown."""
_WITH_LENGTHS: Final = ("preprocessor", "encoder", "vocoder", "codec")
_LOUDNESS: Final = (0.1, 0.3, 1.0)
LENS: Final = (30, 22, 9)
"""Encoder frames of the utterances that heads and losses are shown."""
LABEL_LENS: Final = (5, 4, 2)


@frozen
class Way:
    """One way of calling a component: the call, and what it is given by name."""

    run: Callable[[], Any]
    given: Mapping[str, Any]
    name: str = ""

    @classmethod
    def of(cls, function: Any, *, name: str = "", **given: Any) -> Way:
        """`function` with `given` as positional arguments."""
        return cls(partial(function, *given.values()), given, name)


def ways(subject: Subject, built: Any, seed: int = 0) -> list[Way]:
    """How what was built from `subject` is called, on random input."""
    kind = subject.spec.kind
    if kind == "preprocessor":
        wav, lens = recordings(built, seed)
        return [Way.of(built, wav=wav, lens=lens)]
    if kind in ("encoder", "vocoder", "augmentation"):
        feats, lens = samples.batch(_FRAMES, D_IN, seed=seed)
        return [Way.of(built, feats=feats, lens=lens)]
    if kind == "decoder":
        inputs = head_inputs(built, seed)
        return [Way(partial(built, **inputs), inputs)]
    if kind == "codec":
        (wav, lens), (values, frames) = recordings(built, seed), codes(built, seed)
        return [
            Way.of(built.encode, name="encode", wav=wav, lens=lens),
            Way.of(built.decode, name="decode", codes=values, lens=frames),
        ]
    if kind == "loss":
        inputs = loss_inputs(subject, built, seed)
        return [Way(partial(built, **inputs), inputs)]
    raise Skipped(f"the contract does not say yet how a {kind} is called")


def call(subject: Subject, built: Any, seed: int = 0) -> tuple[Tensor, ...]:
    """What all `ways` of calling it give: tensors of one or more dimensions, zero behind the lengths."""
    return tuple(tensor for way in ways(subject, built, seed) for tensor in result(subject, way))


def result(subject: Subject, way: Way) -> tuple[Tensor, ...]:
    """The same of one way."""
    value = way.run()
    if subject.spec.kind in _WITH_LENGTHS:
        return _valid(*value)
    return tuple(tensor if tensor.ndim else tensor.reshape(1) for tensor in tensors(value))


def _valid(values: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
    mask = lengths.mask(lens, values.shape[1])
    return values.masked_fill(~mask.reshape(*mask.shape, *[1] * (values.ndim - 2)), 0), lens


def recordings(module: Any, seed: int = 0) -> tuple[Tensor, Tensor]:
    """`(B, N)` noise of up to a second at the module's `sample_rate`, louder for another seed, and the lengths `(B,)`."""
    rate = module.sample_rate
    return samples.batch((rate, rate // 2, rate // 3 + 1), scale=_LOUDNESS[seed % len(_LOUDNESS)], seed=seed)


def recorded(model: Any, rows: slice = slice(None)) -> Batch:
    """Those `rows` of a batch of recordings of `SECONDS`, for a task, padded as far as the longest of them needs it.

    Raises:
        Skipped: the task has no preprocessor to tell the sample rate.
    """
    if not hasattr(model, "preprocessor"):
        raise Skipped("the contract does not say yet how a task without a preprocessor is run")
    rate = int(model.preprocessor.sample_rate)
    wav, lens = samples.batch([int(seconds * rate) for seconds in SECONDS], scale=_LOUDNESS[0])
    items = tuple(Item(None, f"recording {n}") for n in range(len(SECONDS)))
    return Batch(wav[rows, : int(lens[rows].max())], lens[rows], items[rows])


def codes(module: Any, seed: int = 0) -> tuple[Tensor, Tensor]:
    """`(B, T, Q)` codes of a codec, also behind the lengths `(B,)`."""
    lens = torch.tensor(LENS)
    return samples.ids(len(LENS), max(LENS), module.n_codebooks, below=module.codebook_size, seed=seed), lens


def labelled() -> Tensors:
    """`lens`, `labels` and `label_lens` of a batch, with ids also behind the lengths."""
    labels = samples.ids(len(LABEL_LENS), max(LABEL_LENS), below=VOCAB_SIZE)
    return {"lens": torch.tensor(LENS), "labels": labels, "label_lens": torch.tensor(LABEL_LENS)}


def head_inputs(module: Any, seed: int = 0) -> Tensors:
    """What a decoder's `forward` declares by name, as training calls it.

    Raises:
        Skipped: it needs something that training does not have, and its check of that says so.
    """
    parameter = next(module.parameters(), None) if isinstance(module, nn.Module) else None
    dtype = torch.float32 if parameter is None else parameter.dtype
    return named(module, {"enc": samples.batch(LENS, D_IN, seed=seed)[0].to(dtype)} | labelled())


def loss_inputs(subject: Subject, loss: Any, seed: int = 0) -> Tensors:
    """What a loss declares by name: a prediction and its target, or the outputs of the nearest decoder with which it runs.

    Raises:
        Skipped: it needs something that no installed decoder returns, and its check of that says so.
        Exception: what the loss raises, where it runs with none of those decoders that return what it needs.
    """
    frames = samples.noise(len(LENS), max(LENS), D_IN, seed=seed), samples.noise(len(LENS), max(LENS), D_IN, seed=seed + 1)
    regression = {"pred": frames[0], "target": frames[1], "lens": torch.tensor(LENS)}
    if not lacking(loss, regression):
        return named(loss, regression)
    refused: BaseException | None = None
    for outputs in _decoder_outputs(subject, seed):
        if lacking(loss, outputs):
            continue
        try:
            loss(**{name: value.clone() for name, value in named(loss, outputs).items()})  # it may write into them
        except RAISED as error:  # made for a decoder of another family, or broken
            refused = refused or error
        else:
            return named(loss, outputs)
    if refused is not None:
        raise refused
    asked = ", ".join(lacking(loss, labelled()))
    raise Skipped(
        f"it asks for {asked}, and no installed decoder returns that: a decoder's forward gives logits, or a dict of names"
    )


def _decoder_outputs(subject: Subject, seed: int) -> Iterator[Tensors]:
    """What a loss is offered beside the labels: of each decoder that can be run, the nearest first, and then random logits."""
    for mate in subject.mates("decoder"):
        try:
            with torch.no_grad():
                decoder = mate.build()
                outputs = decoder(**head_inputs(decoder, seed))
        except RAISED:  # its own checks say why
            continue
        outputs = outputs if isinstance(outputs, Mapping) else {"logits": outputs}
        yield labelled() | {name: value for name, value in outputs.items() if isinstance(value, Tensor)}
    logits = samples.noise(len(LENS), max(LENS), VOCAB_SIZE + 1, seed=seed)  # a loss may be the only thing in its package
    yield labelled() | {"logits": logits}


def named(module: Any, offered: Tensors) -> Tensors:
    """Those of `offered` that calling `module` declares by name.

    Raises:
        Skipped: it needs others too.
    """
    declared = inspect.signature(module.forward if isinstance(module, nn.Module) else module).parameters
    unknown = lacking(module, offered)
    if unknown:
        raise Skipped(f"its forward needs {', '.join(unknown)}, and the contract offers {', '.join(offered)}")
    return {name: value for name, value in offered.items() if name in declared}


def lacking(module: Any, offered: Collection[str]) -> list[str]:
    """What calling `module` needs that is not among `offered`."""
    declared = inspect.signature(module.forward if isinstance(module, nn.Module) else module).parameters
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [n for n, p in declared.items() if p.default is p.empty and n not in offered and p.kind not in variadic]


def tensors(value: Any) -> tuple[Tensor, ...]:
    """All tensors in nested tuples, lists and mappings."""
    if isinstance(value, Tensor):
        return (value,)
    if isinstance(value, Mapping):
        value = tuple(value.values())
    return tuple(t for item in value for t in tensors(item)) if isinstance(value, (tuple, list)) else ()
