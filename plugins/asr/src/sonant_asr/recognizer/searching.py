"""Which search reads a head's labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sonant.build import instantiate
from sonant.config import fill_section
from sonant.errors import ConfigError
from sonant.files import Files
from sonant.protocols import Tokenizer


def choose(head: Any, tokenizer: Tokenizer, wanted: str | Mapping[str, Any] | None, own: Any = None) -> Any:
    """The search called `wanted`, or a section with its fields; without one `own`, the config's, or else the one the head names.

    Raises:
        ConfigError: there is no such search, or it reads other heads.
    """
    name: Any
    if wanted is None and own is not None:
        chosen, name = own, type(own).__name__
    else:
        name = wanted or head.search
        section = fill_section("search", name, "search")
        chosen = instantiate(section, "search", {"tokenizer": tokenizer, "files": Files.beside(Path.cwd())})
    families = getattr(chosen, "families", (head.family,))
    if head.family not in families:
        hint = f": try {head.search!r}" if name != head.search else ""
        raise ConfigError(f"search={name!r} reads {' and '.join(families)} heads, and this one is {head.family}{hint}")
    return chosen
