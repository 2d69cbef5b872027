"""Schedulers that fall from the learning rate to a lowest one at the last step. The curves are NeMo's, step by step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer

from sonant_training.schedulers import config as configs
from sonant_training.schedulers.schedule import Schedule, check_lowest, end_at, run_length, stretch, warm_up


def cosine(config: configs.CosineConfig, *, optimizer: Optimizer, max_steps: int | None = None) -> Schedule:
    """Half a cosine (Loshchilov and Hutter, 2017).

    With `constant_steps` it is Megatron's: the warm-up is `step / warmup`, from 0, and `min_lr` is held for the last steps.
    """
    last = run_length(config.max_steps, max_steps)
    held = stretch(config, "constant", last)
    if held:
        return _megatron_cosine(config, optimizer, last, held)
    return _falling(config, optimizer, max_steps, lambda done, lr, lowest: lowest + (lr - lowest) * _half_cosine(done))


def linear(config: configs.LinearConfig, *, optimizer: Optimizer, max_steps: int | None = None) -> Schedule:
    """A straight line, after a hold or at once (Hu et al., 2024)."""
    return _falling(config, optimizer, max_steps, lambda done, lr, lowest: lowest + (lr - lowest) * (1 - done))


def polynomial(config: configs.PolynomialConfig, *, optimizer: Optimizer, max_steps: int | None = None) -> Schedule:
    """A power of what is left, after a hold or at once."""
    return _falling(config, optimizer, max_steps, lambda done, lr, lowest: lowest + (lr - lowest) * (1 - done) ** config.power)


def one_minus_sqrt(config: configs.OneMinusSqrtConfig, *, optimizer: Optimizer, max_steps: int | None = None) -> Schedule:
    """One minus the root of what is done since the hold (Hägele et al., 2024)."""
    return _falling(config, optimizer, max_steps, lambda done, lr, lowest: max(lowest, lr * (1 - done**0.5)))


def square(config: configs.SquareConfig, *, optimizer: Optimizer, max_steps: int | None = None) -> Schedule:
    """The square of what is left after the warm-up."""
    return _falling(config, optimizer, max_steps, lambda done, lr, lowest: max(lowest, lr * (1 - done) ** 2))


def square_root(config: configs.SquareRootConfig, *, optimizer: Optimizer, max_steps: int | None = None) -> Schedule:
    """The root of what is left of the run, warm-up included, so that it begins to fall below `lr`."""
    check_lowest(optimizer, config.min_lr)
    last = run_length(config.max_steps, max_steps)

    def curve(step: int, lr: float) -> float:
        return max(min(config.min_lr, lr), lr * ((last - step) / last) ** 0.5)

    return Schedule(optimizer, end_at(warm_up(curve, stretch(config, "warmup", last)), last, config.min_lr))


Fall = Callable[[float, float, float], float]
"""From the share of the fall that is done, the learning rate and the lowest one to that of the step."""


def _falling(config: Any, optimizer: Optimizer, max_steps: int | None, fall: Fall) -> Schedule:
    """Warm-up, hold where the config has one, then `fall` to the last step."""
    check_lowest(optimizer, config.min_lr)
    last = run_length(config.max_steps, max_steps)
    warmup = stretch(config, "warmup", last)
    start = warmup + (stretch(config, "hold", last) if hasattr(config, "hold_steps") else 0)

    def curve(step: int, lr: float) -> float:
        return fall(_share(step - start, last - start), lr, min(config.min_lr, lr)) if step > start else lr

    return Schedule(optimizer, end_at(warm_up(curve, warmup), last, config.min_lr))


def _megatron_cosine(config: configs.CosineConfig, optimizer: Optimizer, last: int, held: int) -> Schedule:
    check_lowest(optimizer, config.min_lr)
    warmup = stretch(config, "warmup", last)

    def curve(step: int, lr: float) -> float:
        if warmup and step <= warmup:
            return lr * step / warmup
        lowest = min(config.min_lr, lr)
        return lowest + (lr - lowest) * _half_cosine(_share(step - warmup, last - warmup - held))

    return Schedule(optimizer, end_at(curve, last, config.min_lr))


def _half_cosine(done: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * done))


def _share(step: int, steps: int) -> float:
    return min(1.0, step / steps) if steps > 0 else 1.0
