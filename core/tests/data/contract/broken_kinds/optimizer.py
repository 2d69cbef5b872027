"""Optimizers that each break one promise."""

from __future__ import annotations

import torch
from good_kinds.optimizer import Signs


class OwnClass:
    """No child of PyTorch's."""

    def __init__(self, config, *, params):
        self.param_groups = [{"params": params, "lr": config.lr}]


class NoRate(Signs):
    def __init__(self, config, *, params):
        torch.optim.Optimizer.__init__(self, params, {"speed": config.lr})

    def move(self, p, total, lr):
        p.sub_(0.1 * lr)


class TakesNoGroups(Signs):
    def __init__(self, config, *, params):
        super().__init__(config, params=[p.requires_grad_() for p in params])


class Uphill(Signs):
    def move(self, p, total, lr):
        super().move(p, total, -lr)


class Forgets(Signs):
    """It counts its steps beside its state."""

    def __init__(self, config, *, params):
        super().__init__(config, params=params)
        self.count = 0

    def step(self, closure=None):
        self.count += 1
        return super().step(closure)

    def move(self, p, total, lr):
        super().move(p, total, lr / self.count)


class KeepsAnObject(Signs):
    """Its state cannot be read without running code."""

    def state_dict(self):
        return super().state_dict() | {"self": OwnClass}


class OneRate(Signs):
    def move(self, p, total, lr):
        super().move(p, total, 0.1)


class SharedRate(Signs):
    """The learning rate of the first group holds for all."""

    def move(self, p, total, lr):
        super().move(p, total, self.param_groups[0]["lr"])
