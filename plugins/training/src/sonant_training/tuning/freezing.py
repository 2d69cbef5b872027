"""Parts of a model that training leaves as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from sonant_training.tuning import paths

_HELD = "_statistics_are_frozen"


def freeze(model: nn.Module, patterns: Sequence[str], *, but: Sequence[str] = (), where: str = "init") -> list[str]:
    """Train nothing that `patterns` mean, except what `but` means; returns the paths of the frozen parameters.

    Norms with running statistics keep them, where all of their parameters are frozen.

    Raises:
        ConfigError: a pattern means nothing in the model.
    """
    known = paths.names(model)
    frozen = paths.match(patterns, known, f"{where}.freeze") - paths.match(but, known, f"{where}.train")
    parameters = [(name, p) for name, p in model.named_parameters(remove_duplicate=False) if name in frozen]
    for _, parameter in parameters:
        parameter.requires_grad = False
    _hold_statistics(model, frozen)
    return [name for name, _ in parameters]


def _hold_statistics(model: nn.Module, frozen: set[str]) -> None:
    """Norms of frozen parts stay in eval mode, whoever calls `train`: a hook sees to it before their part is used."""
    for key, part in model.named_children():
        held = [m for name, m in part.named_modules(prefix=key) if _has_statistics(m) and _is_frozen(m, name, frozen)]
        for module in held:
            setattr(module, _HELD, True)
        if held:
            part.register_forward_pre_hook(_hold)


def _has_statistics(module: nn.Module) -> bool:
    return getattr(module, "running_mean", None) is not None and getattr(module, "running_var", None) is not None


def _is_frozen(module: nn.Module, path: str, frozen: set[str]) -> bool:
    parameters = list(module.parameters(recurse=False))
    return not any(p.requires_grad for p in parameters) if parameters else path in frozen


def _hold(part: nn.Module, _: Any) -> None:
    for module in part.modules():
        if getattr(module, _HELD, False):
            module.training = False
