"""Running a component the way its kind is run, on random input."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from sonant import lengths
from sonant.testing import samples
from sonant.testing.check import Skipped
from sonant.testing.subject import D_IN, VOCAB_SIZE, Subject

Tensors = dict[str, Tensor]
_FRAMES = (120, 75, 41)
LENS: Final = (30, 22, 9)
"""Encoder frames of the utterances that heads and losses are shown."""
LABEL_LENS: Final = (5, 4, 2)


def call(subject: Subject, module: Any, seed: int = 0) -> tuple[Tensor, ...]:
    """What `module`, built from `subject`, makes of a random batch: its tensors, zero behind the lengths."""
    kind = subject.spec.kind
    if kind == "preprocessor":
        return _valid(*module(*recordings(module, seed)))
    if kind in ("encoder", "vocoder"):
        return _valid(*module(*samples.batch(_FRAMES, D_IN, seed=seed)))
    if kind == "augmentation":
        return (module(*samples.batch(_FRAMES, D_IN, seed=seed)),)
    if kind == "decoder":
        return tensors(head(module, seed))
    if kind == "codec":
        return (*_valid(*module.encode(*recordings(module, seed))), *_valid(*module.decode(*codes(module, seed))))
    if kind == "loss":
        return (module(**loss_inputs(subject, module, seed)).sum().reshape(1),)
    raise Skipped(f"the contract does not say yet how a {kind} is called")


def _valid(values: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
    mask = lengths.mask(lens, values.shape[1])
    return values.masked_fill(~mask.reshape(*mask.shape, *[1] * (values.ndim - 2)), 0), lens


def recordings(module: Any, seed: int = 0) -> tuple[Tensor, Tensor]:
    """`(B, N)` noise of up to a second at the module's `sample_rate`, and the lengths `(B,)`."""
    rate = module.sample_rate
    return samples.batch((rate, rate // 2, rate // 3 + 1), scale=0.1, seed=seed)


def codes(module: Any, seed: int = 0) -> tuple[Tensor, Tensor]:
    """`(B, T, Q)` codes of a codec, also behind the lengths `(B,)`."""
    lens = torch.tensor(LENS)
    return samples.ids(len(LENS), max(LENS), module.n_codebooks, below=module.codebook_size, seed=seed), lens


def labelled(seed: int = 0) -> Tensors:
    """`lens`, `labels` and `label_lens` of a batch, with ids also behind the lengths."""
    labels = samples.ids(len(LABEL_LENS), max(LABEL_LENS), below=VOCAB_SIZE, seed=seed)
    return {"lens": torch.tensor(LENS), "labels": labels, "label_lens": torch.tensor(LABEL_LENS)}


def head(module: Any, seed: int = 0) -> Any:
    """What a decoder's `forward` returns in training.

    Raises:
        Skipped: it asks for something that training does not have.
    """
    parameter = next(module.parameters(), None) if isinstance(module, nn.Module) else None
    dtype = torch.float32 if parameter is None else parameter.dtype
    offered = {"enc": samples.batch(LENS, D_IN, seed=seed)[0].to(dtype)} | labelled(seed)
    return module(**named(module, offered))


def loss_inputs(subject: Subject, loss: Any, seed: int = 0) -> Tensors:
    """What a loss declares by name: a prediction and its target, or the outputs of the nearest decoder with which it runs.

    Raises:
        Skipped: it needs something that no installed decoder returns.
        Exception: what the loss raises, where it runs with none of those decoders that return what it needs.
    """
    frames = samples.noise(len(LENS), max(LENS), D_IN, seed=seed), samples.noise(len(LENS), max(LENS), D_IN, seed=seed + 1)
    regression = {"pred": frames[0], "target": frames[1], "lens": torch.tensor(LENS)}
    if not lacking(loss, regression):
        return named(loss, regression)
    refused: Exception | None = None
    for outputs in _decoder_outputs(subject, seed):
        if lacking(loss, outputs):
            continue
        try:
            loss(**named(loss, outputs))
        except Exception as error:  # made for a decoder of another family, or broken
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
                outputs = head(mate.build(), seed)
        except Exception:  # noqa: S112 (its own checks say why)
            continue
        outputs = outputs if isinstance(outputs, Mapping) else {"logits": outputs}
        yield labelled(seed) | {name: value for name, value in outputs.items() if isinstance(value, Tensor)}
    logits = samples.noise(len(LENS), max(LENS), VOCAB_SIZE + 1, seed=seed)  # a loss may be the only thing in its package
    yield labelled(seed) | {"logits": logits}


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
