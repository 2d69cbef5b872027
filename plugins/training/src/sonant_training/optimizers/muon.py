"""Muon (Jordan et al., 2024): the momentum of a matrix, made orthogonal, is the step; AdamW for all other parameters.

A step's singular values are all about 1, so directions that gradients seldom point to are learnt as fast as the others. Weights
of linear layers and of convolutions over one frame are matrices; biases, scales and wider convolutions are not. Embeddings and
heads are better off with AdamW: name them in a group with `matrices: false`.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import attrs
import torch
from torch import Tensor

from sonant_training.optimizers.config import MuonConfig
from sonant_training.optimizers.stepping import Closure, Moved, count, evaluate, memory, moved

_QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan's: singular values up to 1 go to 0.7 … 1.2 in five iterations


class Muon(torch.optim.Optimizer):
    """Matrices of one shape are made orthogonal together."""

    def __init__(self, config: MuonConfig, *, params: list[Any]) -> None:
        super().__init__(params, attrs.asdict(config))

    @torch.no_grad()
    def step(self, closure: Closure = None) -> Any:
        """One step."""
        loss = evaluate(closure)
        for group in self.param_groups:
            shapes: dict[Any, list[Moved]] = defaultdict(list)
            for item in moved(self, group):
                if group["matrices"] and is_matrix(item[0]):
                    shapes[item[0].shape[:2], item[0].dtype, item[0].device].append(item)
                else:
                    _adamw(item, group)
            for items in shapes.values():
                _muon(items, group)
        return loss


def is_matrix(parameter: Tensor) -> bool:
    """Whether it maps vectors to vectors: `(out, in)`, or the same with dimensions of size 1 behind."""
    return parameter.dim() >= 2 and parameter.shape[:2].numel() == parameter.numel() and min(parameter.shape[:2]) > 1


def orthogonalize(matrices: Tensor, steps: int) -> Tensor:
    """`(K, R, C)` to matrices with the same singular vectors and singular values about 1, by Newton and Schulz's iteration.

    In bfloat16 on a GPU, where the result needs no more and takes a fraction of the time.
    """
    a, b, c = _QUINTIC
    x = matrices.bfloat16() if matrices.is_cuda else matrices
    x = x.mT if x.shape[1] > x.shape[2] else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + torch.baddbmm(gram, gram, gram, beta=b, alpha=c) @ x
    return (x.mT if matrices.shape[1] > matrices.shape[2] else x).to(matrices.dtype)


def _muon(items: list[Moved], group: dict[str, Any]) -> None:
    directions = []
    for parameter, gradient, state in items:
        mean = memory(state, "momentum", parameter)
        mean.lerp_(gradient, 1 - group["momentum"])
        directions.append(gradient.lerp(mean, group["momentum"]) if group["nesterov"] else mean)
    rows, columns = items[0][0].shape[:2]
    factor = 0.2 * max(rows, columns) ** 0.5 if group["scale"] == "adamw" else max(1, rows / columns) ** 0.5
    updates = orthogonalize(torch.stack([d.reshape(rows, columns) for d in directions]), group["ns_steps"])
    for (parameter, _, _), update in zip(items, updates, strict=True):
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.sub_(update.view_as(parameter), alpha=group["lr"] * factor)


def _adamw(item: Moved, group: dict[str, Any]) -> None:
    parameter, gradient, state = item
    (b1, b2), lr, step = group["betas"], group["lr"], count(state)
    mean = memory(state, "mean", parameter).lerp_(gradient, 1 - b1)
    square = memory(state, "square", parameter).mul_(b2).addcmul_(gradient, gradient, value=1 - b2)
    root = (square / (1 - b2**step)).sqrt_().add_(group["eps"])
    parameter.mul_(1 - lr * group["weight_decay"]).addcdiv_(mean, root, value=-lr / (1 - b1**step))
