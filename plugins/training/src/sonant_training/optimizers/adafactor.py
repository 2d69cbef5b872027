"""Adafactor (Shazeer and Stern, 2018): the mean of squares of a matrix is kept as one row and one column."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor

from sonant_training.optimizers.config import AdafactorConfig
from sonant_training.optimizers.stepping import Closure, count, evaluate, memory, moved


class Adafactor(torch.optim.Optimizer):
    """Tensors of two and more dimensions are factored over the last two."""

    def __init__(self, config: AdafactorConfig, *, params: list[Any]) -> None:
        super().__init__(params, attrs.asdict(config))

    @torch.no_grad()
    def step(self, closure: Closure = None) -> Any:
        """One step."""
        loss = evaluate(closure)
        for group in self.param_groups:
            for parameter, gradient, state in moved(self, group):
                rate = _rate(parameter, count(state), group)
                update = _normalize(gradient, state, group)
                update = update / (_rms(update) / group["clip_threshold"]).clamp(min=1.0) * rate
                if group["beta1"] is not None:
                    mean = memory(state, "mean", parameter)
                    update = mean.mul_(group["beta1"]).add_(update, alpha=1 - group["beta1"])
                parameter.sub_(parameter * (group["weight_decay"] * rate) + update)
        return loss


def _rate(parameter: Tensor, step: int, group: dict[str, Any]) -> Any:
    """The learning rate of one tensor at one step."""
    rate = group["lr"]
    if group["relative_step"]:
        rate = rate * min(1e-6 * step if group["warmup_init"] else group["min_step"], step**-0.5)
    return rate * _rms(parameter).clamp(min=group["eps"][1]) if group["scale_parameter"] else rate


def _normalize(gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    """The gradient by the root of the running mean of its squares."""
    kept = 1.0 - state["step"] ** group["decay_rate"]
    square = gradient.square() + group["eps"][0]
    if gradient.dim() < 2:
        mean = memory(state, "square", gradient)
        return gradient * mean.mul_(kept).add_(square, alpha=1 - kept).rsqrt()
    rows = memory(state, "rows", square[..., 0])
    columns = memory(state, "columns", square[..., 0, :])
    rows.mul_(kept).add_(square.mean(-1), alpha=1 - kept)
    columns.mul_(kept).add_(square.mean(-2), alpha=1 - kept)
    of_row = (rows / rows.mean(-1, keepdim=True)).rsqrt()
    return gradient * of_row.unsqueeze(-1) * columns.rsqrt().unsqueeze(-2)


def _rms(tensor: Tensor) -> Tensor:
    return tensor.norm() / tensor.numel() ** 0.5
