"""What two vocabularies have in common, and which rows of a model's weights belong to it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn

from sonant import weights
from sonant.build import Blueprint, instantiate
from sonant.config import Section
from sonant.errors import ConfigError
from sonant.spec import Part

log = logging.getLogger(__name__)

_MORE = 8  # labels that a part is built with once more than it has, to see which sizes follow; heads may round up to as many


@frozen(eq=False)
class LabelRows:
    """A tensor's `axis` that has an entry for each label, and behind these some for what is none, as the blank.

    `theirs[n]` of the donor, counted along that axis, belongs to `ours[n]`. Of `sizes`, the donor's number of labels and ours,
    what lies behind is copied too where it is as long.
    """

    axis: int
    theirs: Tensor
    ours: Tensor
    sizes: tuple[int, int]

    def copy(self, source: Tensor, target: Tensor) -> None:
        """Copy what both have; the rest of `target` stays as it is."""
        if source.shape[: self.axis] + source.shape[self.axis + 1 :] != target.shape[: self.axis] + target.shape[self.axis + 1 :]:
            raise ConfigError(
                f"init.from: a tensor with a row for each label is {tuple(source.shape)} in the checkpoint, and the config asks "
                f"for {tuple(target.shape)}"
            )
        target.index_copy_(self.axis, self.ours, source.index_select(self.axis, self.theirs).to(target.dtype))
        behind = source.shape[self.axis] - self.sizes[0], target.shape[self.axis] - self.sizes[1]
        if behind[0] == behind[1] and behind[0] > 0:
            target.narrow(self.axis, self.sizes[1], behind[1]).copy_(source.narrow(self.axis, self.sizes[0], behind[0]))


def label_rows(donor: nn.Module, model: nn.Module) -> dict[str, LabelRows]:
    """The tensors of `model` that have an entry for each label, where its vocabulary is another than the donor's."""
    blueprint: Blueprint = model.blueprint  # type: ignore[assignment]
    found: dict[str, LabelRows] = {}
    for part in blueprint.config.task.component.spec.parts:
        tokenizer = next((o.partition(".")[0] for o in part.sizes.values() if o.endswith(".vocab_size")), None)
        if tokenizer is None or part.key not in blueprint.config.parts:
            continue
        old, new = getattr(donor, tokenizer, None), getattr(model, tokenizer, None)
        if old is None or new is None or _pieces(old) == _pieces(new):
            continue
        known = common(_pieces(old), _pieces(new))
        theirs, ours = (
            (torch.tensor(ids, dtype=torch.int64) for ids in zip(*known, strict=True))
            if known
            else (torch.empty(0, dtype=torch.int64),) * 2
        )
        for name, axis in _axes(model, part).items():
            found[name] = LabelRows(axis, theirs, ours, (old.vocab_size, new.vocab_size))
        log.info("%s: %d of %d labels are in the checkpoint's vocabulary", part.key, len(known), new.vocab_size)
    return found


def common(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]]:
    """The ids of each label that both have, there and here."""
    where = {piece: number for number, piece in reversed(list(enumerate(old)))}
    return [(where[piece], number) for number, piece in enumerate(new) if piece in where]


def _pieces(tokenizer: Any) -> list[str]:
    """What the ids stand for; a space is written in one way."""
    return [piece.replace("▁", " ") for piece in tokenizer.pieces(range(tokenizer.vocab_size))]


def _axes(model: nn.Module, part: Part) -> dict[str, int]:
    """The tensors of a part that have an entry for each label, and along which axis: those that grow with the vocabulary.

    Nobody has to declare it: the part is built twice, once with more labels.
    """
    sizes = {name: _size(model, origin) for name, origin in part.sizes.items()}
    label = next(name for name, origin in part.sizes.items() if origin.endswith(".vocab_size"))
    blueprint: Blueprint = model.blueprint  # type: ignore[assignment]
    section = blueprint.config.parts[part.key]
    as_is, larger = (_shapes(section, part.key, sizes | {label: sizes[label] + more}) for more in (0, _MORE))
    return {
        f"{part.key}.{name}": next(axis for axis, size in enumerate(shape) if size != larger[name][axis])
        for name, shape in as_is.items()
        if shape != larger[name]
    }


def _shapes(section: Section, path: str, sizes: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Those of a part's tensors, built without memory, or for real where it computes with numbers."""
    try:
        with weights.outline():
            built = instantiate(section, path, sizes)
    except ConfigError as error:
        if not weights.needs_values(error):
            raise
        with torch.random.fork_rng(devices=[]):
            built = instantiate(section, path, sizes)
    return {name: tuple(tensor.shape) for name, tensor in built.state_dict().items()}


def _size(model: nn.Module, origin: str) -> Any:
    key, _, attribute = origin.partition(".")
    part = getattr(model, key, None)
    return getattr(part, attribute, None) if attribute else part
