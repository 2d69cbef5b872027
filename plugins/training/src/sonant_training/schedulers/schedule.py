"""A learning rate for every step, from a curve. Each scheduler here is such a curve; what they share stands here.

Steps are those of the optimizer, from 0. The steps up to and including `warmup` have the share `(step + 1) / (warmup + 1)` of the
learning rate; after the last step of the schedule its lowest is kept. Both are NeMo's conventions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

Curve = Callable[[int, float], float]
"""From a step and the learning rate of a group's config to the learning rate at that step."""


class Schedule(LRScheduler):
    """Gives each group of an optimizer the learning rate of the step. Its state is the step and the groups' own rates."""

    def __init__(self, optimizer: Optimizer, curve: Curve) -> None:
        self._curve = curve
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:  # type: ignore[override]
        """The learning rate of each group at this step."""
        return [self._curve(self.last_epoch, float(lr)) for lr in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Plain values. The curve is not among them: it follows from the config."""
        return {key: value for key, value in super().state_dict().items() if key != "_curve"}


def run_length(own: int | None, run: int | None) -> int:
    """The number of steps, at least 1, from the scheduler's config or else from the run.

    Raises:
        ValueError: neither says it.
    """
    steps = own if own is not None else run
    if steps is None or steps < 1:
        raise ValueError("it needs the number of steps: set trainer.max_steps, or max_steps here")
    return steps


def stretch(config: Any, name: str, max_steps: int | None) -> int:
    """The steps that `NAME_steps` of a config says, or `NAME_ratio` as a share of `max_steps`; 0 where neither is set.

    Raises:
        ValueError: both are set, or the share is one of an unknown number.
    """
    steps, ratio = getattr(config, f"{name}_steps"), getattr(config, f"{name}_ratio", None)
    if steps is not None and ratio is not None:
        raise ValueError(f"{name}_steps and {name}_ratio say the same: set one of them")
    return int(ratio * run_length(None, max_steps)) if ratio is not None else steps or 0


def warm_up(curve: Curve, steps: int) -> Curve:
    """`curve`, with a linear rise before it."""

    def warmed(step: int, lr: float) -> float:
        return lr * (step + 1) / (steps + 1) if steps > 0 and step <= steps else curve(step, lr)

    return warmed


def end_at(curve: Curve, last: int, min_lr: float) -> Curve:
    """`curve` up to the step `last`, and `min_lr` where a run goes on after it."""

    def ended(step: int, lr: float) -> float:
        return curve(step, lr) if step <= last else min(min_lr, lr)

    return ended


def check_lowest(optimizer: Optimizer, min_lr: float) -> None:
    """
    Raises:
        ValueError: a group's learning rate is below `min_lr`. One of 0 is not: such a group is frozen.
    """
    for group in optimizer.param_groups:
        lr = float(group["lr"])
        if 0 < lr < min_lr:
            raise ValueError(f"min_lr {min_lr:g} is above the learning rate {lr:g} of the optimizer or of one of its groups")
