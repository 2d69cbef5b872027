"""Running a component the way its kind is run, on random input."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sonant import lengths
from sonant.testing import samples
from sonant.testing.check import Skipped
from sonant.testing.subject import D_IN, VOCAB_SIZE

Tensors = dict[str, Tensor]
_FRAMES = (120, 75, 41)


def call(kind: str, module: Any, seed: int = 0) -> tuple[Tensor, ...]:
    """What `module` makes of a random batch: its tensors, zero behind the lengths."""
    if kind == "preprocessor":
        rate = module.sample_rate
        return _valid(*module(*samples.batch((rate, rate // 2, rate // 3), scale=0.1, seed=seed)))
    if kind == "encoder":
        return _valid(*module(*samples.batch(_FRAMES, D_IN, seed=seed)))
    if kind == "augmentation":
        return (module(*samples.batch(_FRAMES, D_IN, seed=seed)),)
    if kind == "decoder":
        return _tensors(module(**_named(module, seed)))
    raise Skipped(f"the contract does not say yet how a {kind} is called")


def _valid(values: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
    mask = lengths.mask(lens, values.shape[1])
    return values.masked_fill(~mask[..., None], 0.0), lens


def _named(module: Any, seed: int) -> Tensors:
    """Those arguments that a decoder's forward declares, out of all that training has to offer."""
    parameter = next(module.parameters(), None) if isinstance(module, nn.Module) else None
    dtype = torch.float32 if parameter is None else parameter.dtype
    enc, lens = samples.batch((30, 22, 9), D_IN, seed=seed)
    labels = samples.ids(3, 5, below=VOCAB_SIZE, seed=seed)
    offered = {"enc": enc.to(dtype), "lens": lens, "labels": labels, "label_lens": torch.tensor([5, 4, 2])}
    declared = inspect.signature(module.forward if isinstance(module, nn.Module) else module).parameters
    unknown = [n for n, p in declared.items() if p.default is p.empty and n not in offered and p.kind != p.VAR_KEYWORD]
    if unknown:
        raise Skipped(f"its forward needs {', '.join(unknown)}, and the contract offers {', '.join(offered)}")
    return {name: value for name, value in offered.items() if name in declared}


def _tensors(value: Any) -> tuple[Tensor, ...]:
    if isinstance(value, Tensor):
        return (value,)
    if isinstance(value, Mapping):
        value = tuple(value.values())
    return tuple(t for item in value for t in _tensors(item)) if isinstance(value, (tuple, list)) else ()
