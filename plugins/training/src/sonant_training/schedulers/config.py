"""Configs of the schedulers. `lr` below is the learning rate of a group of parameters, as its optimizer's config says it."""

from __future__ import annotations

from typing import Any, Literal

from attrs import field, frozen
from attrs.validators import ge, gt, optional


def _help(text: str) -> dict[str, str]:
    return {"help": text}


def _steps(text: str) -> Any:
    return field(default=None, validator=optional(ge(0)), metadata=_help(text))


def _ratio() -> Any:
    return field(default=None, validator=optional(ge(0.0)), metadata=_help("the same as a share of max_steps"))


def _warmup_steps() -> Any:
    return _steps("steps in which the learning rate rises from near 0")


def _hold_steps() -> Any:
    return _steps("steps after the warm-up for which lr is held")


def _max_steps() -> Any:
    return field(default=None, validator=optional(gt(0)), metadata=_help("the step at which it ends, if not that of the run"))


def _min_lr(default: float = 0.0) -> Any:
    return field(default=default, validator=ge(0.0), metadata=_help("lowest learning rate after the warm-up"))


def _gamma(default: float) -> Any:
    return field(default=default, validator=gt(0.0), metadata=_help("factor of the learning rate"))


@frozen(kw_only=True)
class ConstantConfig:
    """`lr`, after a warm-up."""

    warmup_steps: int | None = _warmup_steps()
    warmup_ratio: float | None = _ratio()


@frozen(kw_only=True)
class NoamConfig:
    """Falls with the inverse square root of the step; `lr` is a factor, 1 to 5 as a rule."""

    d_model: int = field(validator=gt(0), metadata=_help("width of the model: the wider, the lower the learning rate"))
    warmup_steps: int | None = _warmup_steps()
    warmup_ratio: float | None = _ratio()
    min_lr: float = _min_lr()
    max_steps: int | None = _max_steps()


@frozen(kw_only=True)
class NoamHoldConfig:
    """Holds `lr`, then falls with a power of the step."""

    warmup_steps: int | None = _warmup_steps()
    warmup_ratio: float | None = _ratio()
    hold_steps: int | None = _hold_steps()
    hold_ratio: float | None = _ratio()
    decay_rate: float = field(default=0.5, validator=gt(0.0), metadata=_help("that power; 0.5 as noam, 1.0 as Squeezeformer"))
    min_lr: float = _min_lr()
    max_steps: int | None = _max_steps()


@frozen(kw_only=True)
class InverseSqrtConfig:
    """Falls with the inverse square root of the step."""

    warmup_steps: int | None = _warmup_steps()
    warmup_ratio: float | None = _ratio()
    min_lr: float = _min_lr()
    max_steps: int | None = _max_steps()


@frozen(kw_only=True)
class T5InverseSqrtConfig:
    """Falls with the inverse square root of the step, and is held before that."""

    constant_steps: int | None = _steps("steps at the beginning for which the learning rate is held")
    constant_ratio: float | None = _ratio()
    min_lr: float = _min_lr()
    max_steps: int | None = _max_steps()


@frozen(kw_only=True)
class CosineConfig:
    """Falls to `min_lr` as half a cosine."""

    warmup_steps: int | None = _warmup_steps()
    warmup_ratio: float | None = _ratio()
    constant_steps: int | None = _steps("steps at the end for which min_lr is held")
    constant_ratio: float | None = _ratio()
    min_lr: float = _min_lr()
    max_steps: int | None = _max_steps()


@frozen(kw_only=True)
class LinearConfig:
    """Falls to `min_lr` as a straight line."""

    warmup_steps: int | None = _warmup_steps()
    warmup_ratio: float | None = _ratio()
    hold_steps: int | None = _hold_steps()
    hold_ratio: float | None = _ratio()
    min_lr: float = _min_lr()
    max_steps: int | None = _max_steps()


@frozen(kw_only=True)
class PolynomialConfig:
    """Falls to `min_lr` as a power of what is left of the run."""

    warmup_steps: int | None = _warmup_steps()
    warmup_ratio: float | None = _ratio()
    hold_steps: int | None = _hold_steps()
    hold_ratio: float | None = _ratio()
    power: float = field(default=1.0, validator=gt(0.0), metadata=_help("that power: 1 is a straight line"))
    min_lr: float = _min_lr()
    max_steps: int | None = _max_steps()


@frozen(kw_only=True)
class OneMinusSqrtConfig:
    """Falls towards 0 as one minus the square root of what is done since the hold, to `min_lr` at most."""

    warmup_steps: int | None = _warmup_steps()
    warmup_ratio: float | None = _ratio()
    hold_steps: int | None = _hold_steps()
    hold_ratio: float | None = _ratio()
    min_lr: float = _min_lr()
    max_steps: int | None = _max_steps()


@frozen(kw_only=True)
class SquareConfig:
    """Falls towards 0 as the square of what is left of the run, to `min_lr` at most."""

    warmup_steps: int | None = _warmup_steps()
    warmup_ratio: float | None = _ratio()
    min_lr: float = _min_lr(1e-5)
    max_steps: int | None = _max_steps()


@frozen(kw_only=True)
class SquareRootConfig:
    """Falls towards 0 as the square root of what is left of the run, to `min_lr` at most."""

    warmup_steps: int | None = _warmup_steps()
    warmup_ratio: float | None = _ratio()
    min_lr: float = _min_lr()
    max_steps: int | None = _max_steps()


@frozen(kw_only=True)
class StepConfig:
    """Falls by a factor every so many steps."""

    step_size: int = field(validator=gt(0), metadata=_help("steps from one fall to the next"))
    gamma: float = _gamma(0.1)
    warmup_steps: int | None = _warmup_steps()


@frozen(kw_only=True)
class MultiStepConfig:
    """Falls by a factor at given steps."""

    milestones: list[int] = field(metadata=_help("the steps at which it falls"))
    gamma: float = _gamma(0.1)
    warmup_steps: int | None = _warmup_steps()


@frozen(kw_only=True)
class ExponentialConfig:
    """Falls by a factor at every step."""

    gamma: float = _gamma(0.9999)
    warmup_steps: int | None = _warmup_steps()


@frozen(kw_only=True)
class CyclicConfig:
    """Rises from `min_lr` to `lr` and falls back, again and again."""

    min_lr: float = field(default=0.0, validator=ge(0.0), metadata=_help("learning rate at which a cycle begins and ends"))
    step_size_up: int = field(default=2000, validator=gt(0), metadata=_help("steps of the rise"))
    step_size_down: int | None = field(
        default=None, validator=optional(gt(0)), metadata=_help("steps of the fall, if not as many as of the rise")
    )
    mode: Literal["triangular", "triangular2", "exp_range"] = field(
        default="triangular", metadata=_help("how high each cycle goes: all alike, half the last, or times gamma at each step")
    )
    gamma: float = field(default=1.0, validator=gt(0.0), metadata=_help("for exp_range"))
