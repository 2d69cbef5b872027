"""NeMo's adapters in Conformer layers. They stand in a section of their own, `adapters`, which is handed to the encoder's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sonant.errors import CheckpointError
from sonant.nemo import NemoSection, Rename
from sonant_encoders.conformer.config import ConformerConfig

_LINEAR = "nemo.collections.common.parts.adapter_modules.LinearAdapter"
_RESIDUAL = "nemo.core.classes.mixins.adapter_mixin_strategies.ResidualAddAdapterStrategy"
_GLOBAL = "global_cfg"  # NeMo keeps there which module each belongs to
_SAME = {"activation": "swish", "norm_position": "pre", "dropout": 0.0, "enabled": True}  # key in both: NeMo's default


def read(encoder: NemoSection) -> dict[str, Any]:
    """The adapters of NeMo's encoder section, if it was given any, as ours."""
    if "adapters" not in encoder:
        encoder.take("adapters", None)
        return {}
    whole = encoder.section("adapters")
    modules = ((whole.take(_GLOBAL, None) or {}).get("adapter_meta_cfg") or {}).get("modules") or {}
    found = {}
    for name in list(whole.keys()):
        if modules.get(name) not in (None, "", "encoder"):
            raise CheckpointError(f"the adapter {name!r} is one of {modules[name]}: only those of the encoder are supported")
        one = whole.section(name)
        found[name] = _read(one)
        encoder.dropped += one.finish()
    return found


def _read(section: NemoSection) -> dict[str, Any]:
    section.expect("_target_", _LINEAR)
    strategy = section.take("adapter_strategy", None) or {}
    if strategy.get("_target_", _RESIDUAL) != _RESIDUAL:
        raise CheckpointError(f"{section.path}.adapter_strategy is {strategy['_target_']!r}; supported: {_RESIDUAL!r}")
    section.drop("in_features")
    return {"dim": section.take("dim")} | {key: section.take(key, default) for key, default in _SAME.items()}


def write(config: ConformerConfig) -> dict[str, Any]:
    """Our adapters to NeMo's section."""
    strategy = {"_target_": _RESIDUAL, "stochastic_depth": 0.0, "l2_lambda": 0.0}
    found: dict[str, Any] = {_GLOBAL: {"adapter_meta_cfg": {"modules": dict.fromkeys(config.adapters, "")}}}
    for name, adapter in config.adapters.items():
        values = {key: getattr(adapter, key) for key in ("dim", *_SAME)}
        found[name] = {"_target_": _LINEAR, "in_features": config.d_model} | values | {"adapter_strategy": dict(strategy)}
    return found


def tensors(adapters: Mapping[str, Any]) -> Iterator[Rename]:
    """Their rows of the table: NeMo counts the layers of each, one of which has no weights."""
    for name, adapter in adapters.items():
        order = ("norm", "down", "", "up") if adapter.get("norm_position", "pre") == "pre" else ("down", "", "up", "norm")
        for index, ours in enumerate(order):
            if ours:
                yield Rename(f"layers.{{}}.adapter_layer.{name}.module.{index}.{{}}", f"layers.{{}}.adapters.{name}.{ours}.{{}}")
