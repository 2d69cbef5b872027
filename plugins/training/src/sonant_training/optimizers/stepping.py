"""What every optimizer's step begins with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

Closure = Callable[[], Any] | None
Moved = tuple[Tensor, Tensor, dict[str, Any]]
"""A parameter, its gradient, and what the optimizer remembers of it: empty at its first step."""


def evaluate(closure: Closure) -> Any:
    """The loss, where a closure computes it and the gradients."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def moved(optimizer: Optimizer, group: dict[str, Any]) -> Iterator[Moved]:
    """The parameters of a group that have a gradient.

    Raises:
        ValueError: a gradient is sparse.
    """
    for parameter in group["params"]:
        if parameter.grad is None:
            continue
        if parameter.grad.is_sparse:
            raise ValueError(f"{type(optimizer).__name__} takes no sparse gradients; use sgd or adagrad")
        yield parameter, parameter.grad, optimizer.state[parameter]


def step_each(optimizer: Optimizer, closure: Closure, move: Callable[[Moved, dict[str, Any]], None]) -> Any:
    """A step that moves one parameter after the other, each by itself; returns the loss, where a closure computes it."""
    loss = evaluate(closure)
    for group in optimizer.param_groups:
        for item in moved(optimizer, group):
            move(item, group)
    return loss


def count(state: dict[str, Any]) -> int:
    """The number of this step of a parameter, from 1."""
    state["step"] = int(state.get("step", 0)) + 1
    return int(state["step"])


def memory(state: dict[str, Any], name: str, like: Tensor) -> Tensor:
    """What is remembered of a parameter by `name`; zeros in the shape of `like` at its first step."""
    if name not in state:
        state[name] = torch.zeros_like(like)
    value: Tensor = state[name]
    return value
