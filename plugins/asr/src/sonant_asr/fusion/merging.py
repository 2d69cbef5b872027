"""What a call asks a search to listen to, put into the search's config."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import attrs

from sonant import config, registry
from sonant.errors import ConfigError, SonantError
from sonant_asr.fusion.config import FusionConfig


def plain(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked, of `FusionConfig`'s fields, as a config holds it; what is None is left out."""
    found = {name: value for name, value in asked.items() if value is not None}
    if "lm" in found:
        found["lm"] = os.fspath(found["lm"])
    phrases = found.get("boost")
    if isinstance(phrases, Mapping):
        found["boost"] = dict(phrases)
    elif phrases is not None and not isinstance(phrases, str):
        found["boost"] = list(phrases)
    return found


def listening(search_config: Any, asked: Mapping[str, Any], name: str, family: str) -> Any:
    """The config of the search `name` with `asked`, fields of `FusionConfig`, in its field `fusion`.

    Raises:
        ConfigError: it has no such field (names those for this family of heads that have it), or what is asked cannot be.
    """
    if not takes_scorers(type(search_config)):
        others = ", ".join(map(repr, _takers(family))) or "none"
        raise ConfigError(f"search={name!r} takes no language model and no phrases; searches of this head that do: {others}")
    before, phrases = search_config.fusion, asked.get("boost", search_config.fusion.boost)
    values = {field.name: getattr(before, field.name) for field in attrs.fields(FusionConfig)} | dict(asked)
    try:  # a filled config has its types checked, value by value, which takes long for thousands of phrases
        fusion = attrs.evolve(config.fill(FusionConfig, values | {"boost": None}, "search.fusion"), boost=phrases)
    except ValueError as error:
        raise error if isinstance(error, ConfigError) else ConfigError(str(error)) from error
    for thing, is_there in (("lm", fusion.lm is not None), ("boost", bool(fusion.boost))):
        if f"{thing}_weight" in asked and not is_there:
            raise ConfigError(f"{thing}_weight weighs {thing}, which is not given")
    return attrs.evolve(search_config, fusion=fusion)


def takes_scorers(search_config: type) -> bool:
    """Whether searches with this config take a language model and phrases."""
    return "fusion" in {field.name for field in attrs.fields(search_config)}


def _takers(family: str) -> list[str]:
    """The searches for a family of heads that take scorers."""
    found = []
    for name in registry.current().names("search"):
        try:
            component = registry.current().get("search", name)
            target = config.load_target(component.spec.target, config.label(component))
            if takes_scorers(config.config_class(component)) and family in getattr(target, "families", (family,)):
                found.append(name)
        except SonantError:  # a broken plugin is no help
            continue
    return found
