"""Configs of the optimizers. Every field can also be set for a group of parameters alone (`optim.groups`)."""

from __future__ import annotations

from typing import Any, Literal

from attrs import Attribute, field, frozen
from attrs.validators import ge, gt, optional


def _help(text: str) -> dict[str, str]:
    return {"help": text}


def _check_shares(_: Any, attribute: Attribute[Any], value: Any) -> None:
    for share in value if isinstance(value, (list, tuple)) else (value,):
        if not 0 <= share < 1:
            raise ValueError(f"{attribute.name} {value} must be from 0 to below 1")


def _lr() -> Any:
    return field(validator=ge(0.0), metadata=_help("learning rate; `sched` changes it from step to step"))


def _betas(*shares: float, text: str = "how much of the running means of the gradient and of its square is kept") -> Any:
    return field(default=shares, validator=_check_shares, metadata=_help(text))


def _eps(default: float = 1e-8) -> Any:
    return field(default=default, validator=ge(0.0), metadata=_help("added to the denominator"))


def _decoupled_decay(default: float = 0.0) -> Any:
    return field(default=default, validator=ge(0.0), metadata=_help("share of a weight that is taken off at each step, times lr"))


def _l2_decay() -> Any:
    return field(default=0.0, validator=ge(0.0), metadata=_help("times a weight, added to its gradient (L2)"))


def _amsgrad() -> Any:
    return field(default=False, metadata=_help("whether the mean of the squares can only grow (Reddi et al., 2018)"))


@frozen(kw_only=True)
class AdamWConfig:
    """Adam with decoupled weight decay."""

    lr: float = _lr()
    betas: tuple[float, float] = _betas(0.9, 0.999)
    eps: float = _eps()
    weight_decay: float = _decoupled_decay(0.01)
    amsgrad: bool = _amsgrad()


@frozen(kw_only=True)
class AdamConfig:
    """Adam."""

    lr: float = _lr()
    betas: tuple[float, float] = _betas(0.9, 0.999)
    eps: float = _eps()
    weight_decay: float = _l2_decay()
    amsgrad: bool = _amsgrad()


@frozen(kw_only=True)
class NAdamConfig:
    """Adam with Nesterov's momentum."""

    lr: float = _lr()
    betas: tuple[float, float] = _betas(0.9, 0.999)
    eps: float = _eps()
    weight_decay: float = _l2_decay()
    momentum_decay: float = field(default=4e-3, validator=ge(0.0), metadata=_help("how fast the momentum grows to betas[0]"))
    decoupled_weight_decay: bool = field(default=False, metadata=_help("whether weight_decay is that of adamw"))


@frozen(kw_only=True)
class RAdamConfig:
    """Adam that waits until the running mean of the squares can be trusted."""

    lr: float = _lr()
    betas: tuple[float, float] = _betas(0.9, 0.999)
    eps: float = _eps()
    weight_decay: float = _l2_decay()
    decoupled_weight_decay: bool = field(default=False, metadata=_help("whether weight_decay is that of adamw"))


@frozen(kw_only=True)
class AdamaxConfig:
    """Adam with the largest gradient for the mean of the squares."""

    lr: float = _lr()
    betas: tuple[float, float] = _betas(0.9, 0.999)
    eps: float = _eps()
    weight_decay: float = _l2_decay()


@frozen(kw_only=True)
class SgdConfig:
    """Stochastic gradient descent."""

    lr: float = _lr()
    momentum: float = field(default=0.0, validator=ge(0.0), metadata=_help("share of the last step that is taken again"))
    dampening: float = field(default=0.0, metadata=_help("share of the gradient that the momentum leaves out"))
    weight_decay: float = _l2_decay()
    nesterov: bool = field(default=False, metadata=_help("whether the gradient is that after the momentum; needs momentum"))


@frozen(kw_only=True)
class AdagradConfig:
    """Steps by the sum of all squares so far."""

    lr: float = _lr()
    lr_decay: float = field(default=0.0, validator=ge(0.0), metadata=_help("lr is divided by 1 + step · lr_decay"))
    weight_decay: float = _l2_decay()
    initial_accumulator_value: float = field(default=0.0, validator=ge(0.0), metadata=_help("the sum before the first step"))
    eps: float = _eps(1e-10)


@frozen(kw_only=True)
class AdadeltaConfig:
    """Steps by the mean of the squares of the last steps."""

    lr: float = _lr()
    rho: float = field(default=0.9, validator=_check_shares, metadata=_help("how much of the running means is kept"))
    eps: float = _eps(1e-6)
    weight_decay: float = _l2_decay()


@frozen(kw_only=True)
class RMSpropConfig:
    """Steps by the running mean of the squares."""

    lr: float = _lr()
    alpha: float = field(default=0.99, validator=_check_shares, metadata=_help("how much of the mean of the squares is kept"))
    eps: float = _eps()
    weight_decay: float = _l2_decay()
    momentum: float = field(default=0.0, validator=ge(0.0), metadata=_help("share of the last step that is taken again"))
    centered: bool = field(default=False, metadata=_help("whether the square of the mean is taken off the mean of the squares"))


@frozen(kw_only=True)
class NovoGradConfig:
    """NovoGrad: one mean of squares for each tensor."""

    lr: float = _lr()
    betas: tuple[float, float] = _betas(0.95, 0.98)
    eps: float = _eps()
    weight_decay: float = field(
        default=0.0, validator=ge(0.0), metadata=_help("times a weight, added to its normalized gradient")
    )
    grad_averaging: bool = field(default=False, metadata=_help("whether the gradient counts 1 - betas[0] in its mean"))
    amsgrad: bool = _amsgrad()
    luc: bool = field(default=False, metadata=_help("whether steps are clipped to a share of the tensor's norm"))
    luc_trust: float = field(default=1e-3, validator=gt(0.0), metadata=_help("that share"))
    luc_eps: float = field(default=1e-8, validator=ge(0.0), metadata=_help("added to the step's norm for that"))


@frozen(kw_only=True)
class AdafactorConfig:
    """Adafactor: the mean of squares of a matrix as a row and a column."""

    lr: float = field(
        validator=ge(0.0), metadata=_help("learning rate; with relative_step a factor of that of the step, 1 as published")
    )
    eps: tuple[float, float] = field(
        default=(1e-30, 1e-3), metadata=_help("added to the squares; smallest scale of a tensor for scale_parameter")
    )
    clip_threshold: float = field(default=1.0, validator=gt(0.0), metadata=_help("root mean square at which a step is clipped"))
    decay_rate: float = field(default=-0.8, metadata=_help("the mean of the squares keeps 1 - step ** decay_rate; below 0"))
    beta1: float | None = field(
        default=None, validator=optional(_check_shares), metadata=_help("how much of a running mean of steps is kept, if any")
    )
    weight_decay: float = _decoupled_decay()
    scale_parameter: bool = field(default=False, metadata=_help("whether lr is times the root mean square of the tensor"))
    relative_step: bool = field(default=False, metadata=_help("whether lr is times min(min_step, step ** -0.5)"))
    warmup_init: bool = field(default=False, metadata=_help("whether min_step is 1e-6 · step, for a warm-up"))
    min_step: float = field(default=1e-2, validator=gt(0.0), metadata=_help("the largest learning rate of relative_step"))

    def __attrs_post_init__(self) -> None:
        if self.decay_rate >= 0:
            raise ValueError(f"decay_rate {self.decay_rate} must be below 0: the mean of squares keeps 1 - step ** decay_rate")
        if self.warmup_init and not self.relative_step:
            raise ValueError("warmup_init needs relative_step: true; for a schedule of your own use sched")


@frozen(kw_only=True)
class AdanConfig:
    """Adan: Nesterov's momentum by the difference of gradients."""

    lr: float = _lr()
    betas: tuple[float, float, float] = _betas(
        0.98, 0.92, 0.99, text="how much of the running means is kept: of the gradient, of its difference, of the square"
    )
    eps: float = _eps()
    weight_decay: float = _decoupled_decay()
    no_prox: bool = field(default=False, metadata=_help("whether weight decay comes before the step, as adamw's"))


@frozen(kw_only=True)
class LionConfig:
    """Lion: the sign of a momentum; lr three to ten times lower than adamw's, weight_decay as much higher."""

    lr: float = _lr()
    betas: tuple[float, float] = _betas(
        0.9, 0.99, text="how much of the running mean counts in the step, and how much of it is kept"
    )
    weight_decay: float = _decoupled_decay()


@frozen(kw_only=True)
class MuonConfig:
    """Muon for matrices, AdamW for everything else."""

    lr: float = _lr()
    momentum: float = field(default=0.95, validator=_check_shares, metadata=_help("of matrices: how much of the mean is kept"))
    nesterov: bool = field(default=True, metadata=_help("of matrices: whether the gradient is that after the momentum"))
    weight_decay: float = _decoupled_decay(0.1)
    ns_steps: int = field(default=5, validator=ge(1), metadata=_help("of matrices: iterations that make the step orthogonal"))
    scale: Literal["adamw", "spectral"] = field(
        default="adamw",
        metadata=_help(
            "of matrices: adamw makes steps as large as AdamW's, so that one lr serves all (Liu et al., 2025); "
            "spectral is Jordan's, √max(1, rows / columns)"
        ),
    )
    matrices: bool = field(default=True, metadata=_help("false: AdamW for matrices too, best for embeddings and heads"))
    betas: tuple[float, float] = _betas(0.9, 0.95, text="of the rest: how much of AdamW's running means is kept")
    eps: float = _eps()
