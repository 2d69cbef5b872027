"""What a scheduler promises: a learning rate for every step, also after the last one, and after a pause."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from sonant.testing import samples
from sonant.testing.check import RAISED, require
from sonant.testing.optimizers import saved_and_read
from sonant.testing.subject import MAX_STEPS, Subject

_RATES = (0.1, 0.02)
_PAUSE = MAX_STEPS // 3


class _Run:
    """An optimizer with two groups, and the scheduler that is built for it."""

    def __init__(self, subject: Subject) -> None:
        groups = [{"params": [nn.Parameter(samples.noise(3))], "lr": rate} for rate in _RATES]
        self.optimizer = torch.optim.AdamW(groups)
        for group in self.optimizer.param_groups:
            group["params"][0].grad = torch.ones(3)
        self.scheduler: Any = subject.build(optimizer=self.optimizer, max_steps=MAX_STEPS)

    def rates(self) -> list[float]:
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def step(self) -> None:
        self.optimizer.step()
        self.scheduler.step()

    def walk(self, steps: int) -> list[list[float]]:
        """The learning rates of the steps to come."""
        found = []
        for _ in range(steps):
            found.append(self.rates())
            self.step()
        return found


def learning_rates(subject: Subject) -> None:
    """At every step each group has a learning rate, finite and not negative, and `get_last_lr` tells it."""
    run = _Run(subject)
    seen = []
    for step in range(MAX_STEPS):
        rates, told = run.rates(), list(run.scheduler.get_last_lr())
        require(
            all(math.isfinite(rate) and rate >= 0 for rate in rates),
            f"at step {step} of {MAX_STEPS} the learning rates are {rates}, from {list(_RATES)}",
        )
        require(told == rates, f"at step {step} get_last_lr gives {told}, and the optimizer's groups have {rates}")
        seen += rates
        run.step()
    require(any(seen), f"all learning rates of {MAX_STEPS} steps are 0: nothing would be learnt")


def goes_on_where_it_stopped(subject: Subject) -> None:
    """Its state, saved and loaded into a new one, gives the learning rates that would have followed."""
    run, resumed = _Run(subject), _Run(subject)
    run.walk(_PAUSE)
    resumed.optimizer.load_state_dict(saved_and_read(run.optimizer.state_dict()))
    resumed.scheduler.load_state_dict(saved_and_read(run.scheduler.state_dict()))
    rest = MAX_STEPS - _PAUSE
    for step, (wanted, found) in enumerate(zip(run.walk(rest), resumed.walk(rest), strict=True), start=_PAUSE):
        require(
            wanted == found,
            f"resumed from its state dict after {_PAUSE} steps, it has other learning rates at step {step}: {found} for {wanted}",
        )


def outlasts_the_run(subject: Subject) -> None:
    """After `max_steps` it still gives learning rates: a run may be prolonged."""
    run = _Run(subject)
    run.walk(MAX_STEPS)
    try:
        rates = [rate for step in run.walk(MAX_STEPS) for rate in step]
    except RAISED as error:
        raise AssertionError(f"stepped beyond max_steps={MAX_STEPS}, it raises {type(error).__name__}: {error}") from error
    require(all(math.isfinite(rate) and rate >= 0 for rate in rates), f"beyond max_steps the learning rates are {rates[:4]} …")


CHECKS = (learning_rates, goes_on_where_it_stopped, outlasts_the_run)
