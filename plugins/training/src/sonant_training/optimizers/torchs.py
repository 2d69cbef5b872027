"""PyTorch's own optimizers, by their configs. Field names and defaults are PyTorch's.

Where PyTorch has one kernel for the whole step, it is used: on a CPU it takes a quarter of the time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
import torch
from torch import nn
from torch.optim import Optimizer

from sonant_training.optimizers import config as configs

_FUSED_ON = {"cpu", "cuda"}


def adamw(config: configs.AdamWConfig, *, params: list[Any]) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""
    return _fused(torch.optim.AdamW, config, params)


def adam(config: configs.AdamConfig, *, params: list[Any]) -> Optimizer:
    """Adam (Kingma and Ba, 2015)."""
    return _fused(torch.optim.Adam, config, params)


def sgd(config: configs.SgdConfig, *, params: list[Any]) -> Optimizer:
    """Stochastic gradient descent, with momentum."""
    return _fused(torch.optim.SGD, config, params)


def adagrad(config: configs.AdagradConfig, *, params: list[Any]) -> Optimizer:
    """AdaGrad (Duchi et al., 2011)."""
    return _plain(torch.optim.Adagrad, config, params)


def nadam(config: configs.NAdamConfig, *, params: list[Any]) -> Optimizer:
    """Adam with Nesterov's momentum (Dozat, 2016)."""
    return _plain(torch.optim.NAdam, config, params)


def radam(config: configs.RAdamConfig, *, params: list[Any]) -> Optimizer:
    """Rectified Adam (Liu et al., 2020)."""
    return _plain(torch.optim.RAdam, config, params)


def adamax(config: configs.AdamaxConfig, *, params: list[Any]) -> Optimizer:
    """Adam by the infinity norm (Kingma and Ba, 2015)."""
    return _plain(torch.optim.Adamax, config, params)


def adadelta(config: configs.AdadeltaConfig, *, params: list[Any]) -> Optimizer:
    """AdaDelta (Zeiler, 2012)."""
    return _plain(torch.optim.Adadelta, config, params)


def rmsprop(config: configs.RMSpropConfig, *, params: list[Any]) -> Optimizer:
    """RMSprop (Tieleman and Hinton, 2012)."""
    return _plain(torch.optim.RMSprop, config, params)


def _plain(optimizer: type[Optimizer], config: Any, params: list[Any]) -> Optimizer:
    return optimizer(params, **attrs.asdict(config))


def _fused(optimizer: type[Optimizer], config: Any, params: list[Any]) -> Optimizer:
    one_kernel = all(p.device.type in _FUSED_ON and p.is_floating_point() for p in _flat(params))
    built = optimizer(params, **attrs.asdict(config), fused=one_kernel)  # type: ignore[call-arg]
    # Gradients are unscaled by who scaled them, not inside the step: else they could not be clipped before it.
    built._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    return built


def _flat(params: list[Any]) -> Iterable[nn.Parameter]:
    for item in params:
        yield from item["params"] if isinstance(item, dict) else (item,)
