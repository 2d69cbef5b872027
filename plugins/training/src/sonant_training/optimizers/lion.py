"""Lion (Chen et al., 2023): every weight moves by the same amount, in the direction of a momentum's sign."""

from __future__ import annotations

from typing import Any

import attrs
import torch

from sonant_training.optimizers.config import LionConfig
from sonant_training.optimizers.stepping import Closure, evaluate, memory, moved


class Lion(torch.optim.Optimizer):
    """One running mean is all that it remembers, half of Adam's memory."""

    def __init__(self, config: LionConfig, *, params: list[Any]) -> None:
        super().__init__(params, attrs.asdict(config))

    @torch.no_grad()
    def step(self, closure: Closure = None) -> Any:
        """One step."""
        loss = evaluate(closure)
        for group in self.param_groups:
            of_step, kept = group["betas"]
            for parameter, gradient, state in moved(self, group):
                mean = memory(state, "mean", parameter)
                direction = mean.lerp(gradient, 1 - of_step).sign_()
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(direction, alpha=group["lr"])
                mean.lerp_(gradient, 1 - kept)
        return loss
