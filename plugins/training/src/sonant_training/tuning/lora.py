"""Low-rank adaptation of linear layers (Hu et al., 2021)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from sonant.errors import ConfigError
from sonant_training.tuning import paths
from sonant_training.tuning.config import LoraConfig


class LoraLinear(nn.Module):
    """A linear layer that stays as it is, and `alpha / rank * up @ down` beside it, which is nothing at the start.

    Whoever asks for `weight` or `bias` gets those of the one layer that it amounts to.
    """

    def __init__(self, base: nn.Linear, config: LoraConfig) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.scale = config.alpha / config.rank
        weight = base.weight
        self.down = nn.Parameter(weight.new_empty(config.rank, base.in_features))
        self.up = nn.Parameter(weight.new_zeros(base.out_features, config.rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        self.dropout = nn.Dropout(config.dropout)

    @property
    def weight(self) -> Tensor:
        """`(out, in)`, with what was learned."""
        return torch.addmm(self.base.weight, self.up, self.down, alpha=self.scale)

    @property
    def bias(self) -> Tensor | None:
        return self.base.bias

    @property
    def in_features(self) -> int:
        return self.base.in_features

    @property
    def out_features(self) -> int:
        return self.base.out_features

    def forward(self, x: Tensor) -> Tensor:
        """`(…, in)` to `(…, out)`."""
        learned = functional.linear(functional.linear(self.dropout(x), self.down), self.up)
        return torch.add(self.base(x), learned, alpha=self.scale)


def add(model: nn.Module, config: LoraConfig, where: str = "init.lora") -> list[str]:
    """Put a `LoraLinear` in the place of every linear layer that `config.modules` mean; returns their paths.

    Raises:
        ConfigError: a path means nothing, or no linear layer.
    """
    layers = {name: module for name, module in model.named_modules() if _is_linear(module)}
    meant = paths.match(config.modules, paths.names(model), f"{where}.modules")
    chosen = [name for name in layers if name in meant]
    if not chosen:
        raise ConfigError(f"{where}.modules: there is no linear layer in {', '.join(config.modules)}")
    for name in chosen:
        _replace(model, name, LoraLinear(layers[name], config))
    return chosen


def is_adapted(model: nn.Module) -> bool:
    """Whether it has any `LoraLinear`."""
    return any(isinstance(module, LoraLinear) for module in model.modules())


def merge(model: nn.Module) -> None:
    """Make one layer of every `LoraLinear`, in place."""
    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLinear):
            with torch.no_grad():
                module.base.weight.copy_(module.weight)
            _replace(model, name, module.base)


def _replace(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


def _is_linear(module: nn.Module) -> bool:
    """Whether it is a linear layer that is used by calling it: one that offers more may be used otherwise."""
    offers = {name for name in dir(type(module)) if not name.startswith("_")}
    return isinstance(module, nn.Linear) and offers <= set(dir(nn.Linear))
