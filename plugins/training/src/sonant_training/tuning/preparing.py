"""What `sonant train` does to a model before it trains it, and before it saves it."""

from __future__ import annotations

import copy
import logging
from typing import Any

from torch import nn

from sonant.errors import ConfigError
from sonant_training.tuning import config, freezing, lora

log = logging.getLogger(__name__)


def prepare_for_training(model: nn.Module, init: Any) -> nn.Module:
    """Freeze and adapt, in place, as the section `init` says; returns the model.

    Args:
        model: what `starting_model` gave.
        init: the section, as it stands in the run's config or as `config.read` gives it.

    Raises:
        ConfigError: a path means nothing in the model, or nothing is left to train.
    """
    wanted = config.read(init)
    patterns, but = wanted.freeze, list(wanted.train)
    if patterns is None and wanted.lora is not None:
        patterns, but = ["*"], [*but, *sorted(getattr(model, "fresh_parameters", ()))]
    if patterns:
        frozen = freezing.freeze(model, patterns, but=but)
        log.info("%d parameters are frozen", len(frozen))
    elif wanted.train:
        raise ConfigError("init.train: it names exceptions from init.freeze, which names nothing")
    if wanted.lora is not None:
        adapted = lora.add(model, wanted.lora)
        log.info("%d linear layers are adapted with rank %d", len(adapted), wanted.lora.rank)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(f"init.freeze: nothing is left to train; init.train names exceptions, e.g. [{_last(model)}]")
    return model


def _last(model: nn.Module) -> str:
    """The last part that has parameters."""
    return next((key for key, part in reversed(list(model.named_children())) if any(True for _ in part.parameters())), "decoder")


def mergeable(model: nn.Module) -> nn.Module:
    """The model to save: itself, or a copy in which what `init.lora` put beside its layers has been added to them."""
    if not lora.is_adapted(model):
        return model
    copied = copy.deepcopy(model, {id(model.blueprint): model.blueprint})  # a blueprint never changes, and is shared
    lora.merge(copied)
    return copied
