"""Adan (Xie et al., 2022): Nesterov's momentum from the gradient and its difference to the last one."""

from __future__ import annotations

from typing import Any

import attrs
import torch

from sonant_training.optimizers.config import AdanConfig
from sonant_training.optimizers.stepping import Closure, Moved, count, step_each


class Adan(torch.optim.Optimizer):
    """Three running means: of the gradient, of its difference, and of the square of what both predict."""

    def __init__(self, config: AdanConfig, *, params: list[Any]) -> None:
        super().__init__(params, attrs.asdict(config))

    @torch.no_grad()
    def step(self, closure: Closure = None) -> Any:
        """One step."""
        return step_each(self, closure, _move)


def _move(item: Moved, group: dict[str, Any]) -> None:
    parameter, gradient, state = item
    step, (b1, b2, b3), lr = count(state), group["betas"], group["lr"]
    if step == 1:
        state |= {name: torch.zeros_like(parameter) for name in ("mean", "change", "square")} | {"last": gradient.clone()}
    change = gradient - state["last"]
    mean = state["mean"].lerp_(gradient, 1 - b1)
    mean_change = state["change"].lerp_(change, 1 - b2)
    ahead = gradient + b2 * change
    square = state["square"].mul_(b3).addcmul_(ahead, ahead, value=1 - b3)
    state["last"].copy_(gradient)

    root = (square / (1 - b3**step)).sqrt_().add_(group["eps"])
    update = (mean / (1 - b1**step) + mean_change * (b2 / (1 - b2**step))).div_(root)
    if group["no_prox"]:
        parameter.mul_(1 - lr * group["weight_decay"]).sub_(update, alpha=lr)
    else:
        parameter.sub_(update, alpha=lr).div_(1 + lr * group["weight_decay"])
