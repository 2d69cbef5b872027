"""NovoGrad (Ginsburg et al., 2019): gradients are normalized by the tensor's own norm, so memory is half of Adam's."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor

from sonant_training.optimizers.config import NovoGradConfig
from sonant_training.optimizers.stepping import Closure, Moved, memory, step_each


class NovoGrad(torch.optim.Optimizer):
    """Momentum over gradients that are divided by a running mean of their norm, tensor by tensor."""

    def __init__(self, config: NovoGradConfig, *, params: list[Any]) -> None:
        super().__init__(params, attrs.asdict(config))

    @torch.no_grad()
    def step(self, closure: Closure = None) -> Any:
        """One step."""
        return step_each(self, closure, _move)


def _move(item: Moved, group: dict[str, Any]) -> None:
    parameter, gradient, state = item
    kept, decay = group["betas"][0], group["weight_decay"]
    share = 1 - kept if group["grad_averaging"] else 1.0
    momentum = memory(state, "momentum", parameter)
    momentum.mul_(kept).addcdiv_(gradient, _norm(gradient, state, group), value=share).add_(parameter, alpha=share * decay)
    if group["luc"]:  # less than the learning rate, where the step is large beside the tensor
        limit = group["luc_trust"] * parameter.norm() / (momentum.norm() + group["luc_eps"])
        parameter.sub_(momentum * limit.clamp(max=group["lr"]))
    else:
        parameter.sub_(momentum, alpha=group["lr"])


def _norm(gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    """The root of the running mean of a gradient's squared norm, which begins at the first that is not 0."""
    kept, norm = group["betas"][1], gradient.norm().square()
    mean = memory(state, "square", norm)
    mean.copy_(torch.where(mean == 0, norm, kept * mean + (1 - kept) * norm))
    if group["amsgrad"]:
        mean = memory(state, "largest", norm).clamp_(min=mean)
    return mean.sqrt() + group["eps"]
