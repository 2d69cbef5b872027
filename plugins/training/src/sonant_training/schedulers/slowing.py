"""Schedulers that fall ever more slowly, and need no last step: powers of the step, after the papers and NeMo."""

from __future__ import annotations

from torch.optim import Optimizer

from sonant_training.schedulers import config as configs
from sonant_training.schedulers.schedule import Schedule, check_lowest, end_at, run_length, stretch, warm_up


def noam(config: configs.NoamConfig, *, optimizer: Optimizer, max_steps: int | None = None) -> Schedule:
    """`lr · d_model^-½ · min(step^-½, step · warmup^-1½)` (Vaswani et al., 2017). Steps 0 and 1 are alike."""
    check_lowest(optimizer, config.min_lr)
    warmup = stretch(config, "warmup", config.max_steps or max_steps)

    def curve(step: int, lr: float) -> float:
        step = max(1, step)
        rate = lr * config.d_model**-0.5 * (min(step**-0.5, step * warmup**-1.5) if warmup else step**-0.5)
        return rate if step <= warmup else max(rate, min(config.min_lr, lr))

    return Schedule(optimizer, curve)


def noam_hold(config: configs.NoamHoldConfig, *, optimizer: Optimizer, max_steps: int | None = None) -> Schedule:
    """`lr · (warmup / (step - hold)) ^ decay_rate` after warm-up and hold (Kim et al., 2022); `min_lr` after the last step.

    Raises:
        ValueError: without a warm-up there is nothing to fall from.
    """
    check_lowest(optimizer, config.min_lr)
    last = run_length(config.max_steps, max_steps)
    warmup, hold = stretch(config, "warmup", last), stretch(config, "hold", last)
    if not warmup:
        raise ValueError("noam_hold needs a warm-up: set warmup_steps or warmup_ratio")

    def curve(step: int, lr: float) -> float:
        if step <= warmup + hold:
            return lr
        return max(lr * (warmup / (step - hold)) ** config.decay_rate, min(config.min_lr, lr))

    return Schedule(optimizer, end_at(warm_up(curve, warmup), last, config.min_lr))


def inverse_sqrt(config: configs.InverseSqrtConfig, *, optimizer: Optimizer, max_steps: int | None = None) -> Schedule:
    """`lr · ((warmup + 1) / (step + 1))^½` after the warm-up."""
    check_lowest(optimizer, config.min_lr)
    warmup = stretch(config, "warmup", config.max_steps or max_steps)

    def curve(step: int, lr: float) -> float:
        return max(lr * ((warmup + 1) / (step + 1)) ** 0.5, min(config.min_lr, lr))

    return Schedule(optimizer, warm_up(curve, warmup))


def t5_inverse_sqrt(config: configs.T5InverseSqrtConfig, *, optimizer: Optimizer, max_steps: int | None = None) -> Schedule:
    """`lr · max(step, constant)^-½` (Raffel et al., 2020); `lr` is 1 there."""
    check_lowest(optimizer, config.min_lr)
    held = stretch(config, "constant", config.max_steps or max_steps)
    return Schedule(optimizer, lambda step, lr: max(lr * max(step, held, 1) ** -0.5, min(config.min_lr, lr)))
