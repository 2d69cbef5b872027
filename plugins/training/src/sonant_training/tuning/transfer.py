"""Weights from one model into another that resembles it: same names, and labels that both vocabularies have."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import torch
from attrs import frozen
from torch import Tensor, nn

from sonant.errors import ConfigError
from sonant_training.tuning import paths
from sonant_training.tuning.vocabulary import LabelRows, label_rows

log = logging.getLogger(__name__)

_SHOWN = 4


@frozen(kw_only=True)
class Report:
    """What became of the tensors: how many were `taken`, of which `by_label` row by row, which are `fresh`, wholly or in part,
    and which of the checkpoint's were `left`."""

    taken: int
    by_label: frozenset[str]
    fresh: frozenset[str]
    left: frozenset[str]

    def __str__(self) -> str:
        text = f"{self.taken} tensors taken over"
        for what, found in (("by label", self.by_label), ("fresh", self.fresh - self.by_label), ("not taken", self.left)):
            text += f"; {what}: {_list(sorted(found))}" if found else ""
        return text


def transfer(donor: nn.Module, model: nn.Module, *, fresh: Sequence[str] = ()) -> Report:
    """Copy into `model` what `donor` has of it.

    Tensors with a row for each label take the rows of the labels that both know. Those that `fresh` means, and those the donor
    does not have, stay as they are.

    Raises:
        ConfigError: tensors have another shape than the donor's, and `fresh` does not mean them; or it means nothing.
    """
    theirs, ours = donor.state_dict(), model.state_dict()
    untouched = paths.match(fresh, paths.names(model), "init.fresh")
    rows = label_rows(donor, model)
    whole: dict[str, Tensor] = {}
    partly: dict[str, tuple[Tensor, LabelRows]] = {}
    misfits = []
    for name in [n for n in ours if n in theirs and n not in untouched]:
        if name in rows:
            partly[name] = theirs[name], rows[name]
        elif ours[name].shape == theirs[name].shape:
            whole[name] = theirs[name]
        else:
            misfits.append(name)
    if misfits:
        raise ConfigError(_misfit(misfits, ours, theirs))
    with torch.no_grad():
        for name, tensor in whole.items():
            ours[name].copy_(tensor)
        for name, (tensor, labels) in partly.items():
            labels.copy(tensor, ours[name])
    taken = {*whole, *partly}
    return Report(
        taken=len(taken),
        by_label=frozenset(partly),
        fresh=frozenset({*(ours.keys() - taken), *partly}) & frozenset(_parameters(model)),
        left=frozenset(theirs.keys() - taken),
    )


def _parameters(model: nn.Module) -> Mapping[str, nn.Parameter]:
    return dict(model.named_parameters(remove_duplicate=False))


def _misfit(names: list[str], ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> str:
    first = names[0]
    parts = sorted({name.split(".")[0] for name in names})
    return (
        f"init.from: {len(names)} tensors of the checkpoint do not fit this config: {_list(names)}; {first} is "
        f"{tuple(theirs[first].shape)} there, and the config asks for {tuple(ours[first].shape)}. Change it, or name what "
        f"shall begin with fresh weights, e.g. init.fresh: [{', '.join(parts)}]"
    )


def _list(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
