"""From the section `optim` of a run's config to its optimizer and its scheduler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from sonant.build import instantiate
from sonant.errors import ConfigError
from sonant.protocols import Scheduler
from sonant_training.optimizers.section import ParameterGroup, read_optim
from sonant_training.tuning import paths


def build_optimizer(section: Mapping[str, Any], model: nn.Module, max_steps: int | None) -> tuple[Optimizer, Scheduler | None]:
    """The optimizer of those parameters of `model` that are trained, and what changes its learning rates from step to step.

    Args:
        section: `optim` of a run's config: `name` and the options of the optimizer, `sched`, a scheduler, and `groups` of
            parameters with options of their own.
        model: those of its parameters that need no gradient are left out.
        max_steps: steps of the whole run, None where it has no end.

    Raises:
        ConfigError: the section does not hold together, or does not fit the model.
        UnknownName, DuplicateName: a name cannot be resolved.
    """
    optim = read_optim(section)
    params = _grouped(optim.groups, model)
    optimizer: Optimizer = instantiate(optim.optimizer, "optim", {"params": params})
    if optim.scheduler is None:
        return optimizer, None
    scheduler: Scheduler = instantiate(optim.scheduler, "optim.sched", {"optimizer": optimizer, "max_steps": max_steps})
    return optimizer, scheduler


def _grouped(groups: Sequence[ParameterGroup], model: nn.Module) -> list[dict[str, Any]]:
    """The trained parameters as torch's groups: first those of no group of the config, then each of these.

    Raises:
        ConfigError: a group matches nothing that is left for it, or nothing is trained.
    """
    left = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not left:
        raise ConfigError("optim: no parameter of the model is trained: all are frozen")
    known = paths.names(model)
    found: list[dict[str, Any]] = []
    for position, group in enumerate(groups):
        where = f"optim.groups[{position}]"
        meant = paths.match(group.chosen.match, known, f"{where}.match")
        taken = [name for name in left if name in meant and (left[name].dim() < 2 or not group.chosen.vectors_only)]
        if not taken:
            raise ConfigError(f"{where}: every parameter that it matches is frozen, or in a group before it")
        found.append({"params": [left.pop(name) for name in taken]} | dict(group.options))
    return [{"params": list(left.values())}, *found] if left else found
