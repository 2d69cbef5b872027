"""What a call asks of confidence, put into a search's config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from sonant import config
from sonant.errors import ConfigError
from sonant_asr.confidence.config import ConfidenceConfig

Asked = bool | str | Mapping[str, Any] | None
"""`True`, the name of a method, or fields of `ConfidenceConfig`."""


def fields(asked: Asked) -> dict[str, Any] | None:
    """Fields of `ConfidenceConfig`, or None where nothing is asked.

    Raises:
        ConfigError: it is none of what may be asked.
    """
    if asked is None or asked is False:
        return None
    if asked is True:
        return {}
    if isinstance(asked, str):
        return {"method": asked}
    if isinstance(asked, Mapping):
        return dict(asked)
    raise ConfigError(f"confidence={asked!r}: True, a method as 'entropy', or a mapping of fields as {{'method': 'max_prob'}}")


def measured(search_config: Any, values: Mapping[str, Any], name: str) -> Any:
    """The config of the search `name` with `values` over those of its field `confidence`.

    Raises:
        ConfigError: it has no such field, or a value cannot be.
    """
    if "confidence" not in {field.name for field in attrs.fields(type(search_config))}:
        raise ConfigError(f"search={name!r} does not say how sure it is; greedy searches of ctc, rnnt and tdt heads do")
    before = search_config.confidence
    own = attrs.asdict(before) if before is not None else {}
    return attrs.evolve(search_config, confidence=config.fill(ConfidenceConfig, own | dict(values), "confidence"))


def aggregation_of(search: Any) -> str:
    """How the confidences of a word's tokens become one in what this search found."""
    found = getattr(getattr(search, "config", None), "confidence", None)
    return found.aggregation if isinstance(found, ConfidenceConfig) else ConfidenceConfig().aggregation
