"""Schedulers that are constant, fall by factors, or go up and down. Without a warm-up they are PyTorch's, step by step."""

from __future__ import annotations

import bisect

from torch.optim import Optimizer

from sonant_training.schedulers import config as configs
from sonant_training.schedulers.schedule import Schedule, check_lowest, stretch, warm_up


def constant(config: configs.ConstantConfig, *, optimizer: Optimizer, max_steps: int | None = None) -> Schedule:
    """The learning rate of the config."""
    return Schedule(optimizer, warm_up(lambda step, lr: lr, stretch(config, "warmup", max_steps)))


def step_decay(config: configs.StepConfig, *, optimizer: Optimizer) -> Schedule:
    """Falls by `gamma` every `step_size` steps."""
    return Schedule(
        optimizer, warm_up(lambda step, lr: lr * config.gamma ** (step // config.step_size), config.warmup_steps or 0)
    )


def multi_step(config: configs.MultiStepConfig, *, optimizer: Optimizer) -> Schedule:
    """Falls by `gamma` at each of `milestones`."""
    milestones = sorted(config.milestones)
    return Schedule(
        optimizer, warm_up(lambda step, lr: lr * config.gamma ** bisect.bisect(milestones, step), config.warmup_steps or 0)
    )


def exponential(config: configs.ExponentialConfig, *, optimizer: Optimizer) -> Schedule:
    """Falls by `gamma` at every step."""
    return Schedule(optimizer, warm_up(lambda step, lr: lr * config.gamma**step, config.warmup_steps or 0))


def cyclic(config: configs.CyclicConfig, *, optimizer: Optimizer) -> Schedule:
    """Triangles between `min_lr` and `lr` (Smith, 2017)."""
    check_lowest(optimizer, config.min_lr)
    up, down = config.step_size_up, config.step_size_down or config.step_size_up

    def height(step: int) -> float:
        cycle, place = divmod(step, up + down)
        share = place / up if place <= up else (up + down - place) / down
        factor = {"triangular": 1.0, "triangular2": 0.5**cycle, "exp_range": config.gamma**step}
        return share * factor[config.mode]

    return Schedule(optimizer, lambda step, lr: min(config.min_lr, lr) + max(0.0, lr - config.min_lr) * height(step))
