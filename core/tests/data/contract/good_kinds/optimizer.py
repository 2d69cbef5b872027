"""A function that gives an optimizer, and a class."""

from __future__ import annotations

import torch


def adam(config, *, params):
    """Adam, as PyTorch has it."""
    return torch.optim.Adam(params, lr=config.lr)


class Signs(torch.optim.Optimizer):
    """Steps of equal size along the sign of the gradients' running sum."""

    def __init__(self, config, *, params):
        super().__init__(params, {"lr": config.lr})

    @torch.no_grad()
    def step(self, closure=None):
        value = closure() if closure else None
        for group in self.param_groups:
            for p in group["params"]:
                total = self.state[p].setdefault("total", torch.zeros_like(p))
                total.mul_(0.5).add_(p.grad)
                self.move(p, total, group["lr"])
        return value

    def move(self, p, total, lr):
        p.sub_(lr * total.sign())
