"""Which search reads a head's labels."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from sonant import registry
from sonant.build import instantiate
from sonant.config import config_class, fill_section
from sonant.errors import ConfigError
from sonant.files import Files
from sonant.protocols import Tokenizer
from sonant_asr.confidence import asking
from sonant_asr.fusion import merging


def choose(
    head: Any,
    tokenizer: Tokenizer,
    wanted: str | Mapping[str, Any] | None,
    own: Any = None,
    *,
    asked: Mapping[str, Any] | None = None,
    confidence: asking.Asked = None,
    members: Mapping[str, bytes] | None = None,
) -> Any:
    """The search called `wanted`, or a section with its fields; without one `own`, the config's, or else the one the head names.

    A section without a name is one of the head's beam search. `asked` are fields of `FusionConfig`, and `confidence` those
    of `ConfidenceConfig`, which come over those of the search. Files that are asked for are the caller's; those that the model's
    own search names are its `members`, which came with it, and nothing else.

    Raises:
        ConfigError: there is no such search, it reads other heads, or it is asked for what it does not take.
    """
    wanted = _named(head, wanted)
    name: Any
    given: dict[str, Any] = {"tokenizer": tokenizer, "files": Files.beside(Path.cwd())}
    if wanted is None and own is not None:
        chosen, name = own, type(own).__name__
        if asked or confidence:
            wants = inspect.signature(type(own)).parameters
            config = _changed(own.config, asked, confidence, name, head.family)
            if "lm" not in (asked or {}):
                given["files"] = Files.of(dict(members or {}), "the model")
            chosen = type(own)(config, **{key: value for key, value in given.items() if key in wants})
    else:
        name = wanted or head.search
        _check_it_has_a_beam(head, name)
        section = fill_section("search", name, "search")
        config = _changed(section.config, asked, confidence, section.name, head.family)
        chosen = instantiate(attrs.evolve(section, config=config), "search", given)
    families = getattr(chosen, "families", (head.family,))
    if head.family not in families:
        hint = f": try {head.search!r}" if name != head.search else ""
        raise ConfigError(f"search={name!r} reads {' and '.join(families)} heads, and this one is {head.family}{hint}")
    return chosen


def _changed(config: Any, asked: Mapping[str, Any] | None, confidence: asking.Asked, name: str, family: str) -> Any:
    """A search's config with what a call asks for."""
    if asked:
        config = merging.listening(config, asked, name, family)
    values = asking.fields(confidence)
    return config if values is None else asking.measured(config, values, name)


def _named(head: Any, wanted: str | Mapping[str, Any] | None) -> str | Mapping[str, Any] | None:
    """A section with the name of the head's beam search, if it has none."""
    if not isinstance(wanted, Mapping) or "name" in wanted:
        return wanted
    name = getattr(head, "beam_search", None)
    if name is None:
        raise ConfigError(f"search={dict(wanted)!r} has no name, and this {head.family} head names no beam search: name one")
    return {"name": name, **wanted}


def _check_it_has_a_beam(head: Any, wanted: str | Mapping[str, Any]) -> None:
    """An error that knows what was meant, where a greedy search is asked to follow several texts."""
    asked = [] if isinstance(wanted, str) else [name for name in ("beam_size", "n_best") if name in wanted]
    if not asked or not isinstance(wanted, Mapping) or not isinstance(wanted["name"], str):
        return
    component = registry.current().get("search", wanted["name"])
    known = {slot.name for slot in attrs.fields(config_class(component))}
    if not known & {"beam_size", "n_best"}:
        beam = getattr(head, "beam_search", None)
        hint = f"; the beam search of this {head.family} head is {beam!r}" if beam else ""
        raise ConfigError(f"search={wanted['name']!r} follows one text, and takes no {' and no '.join(asked)}{hint}")
