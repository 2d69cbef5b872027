"""Model cards: what `sonant.load` can fetch by name, where from, and under which licence.

Cards come from `registry.yaml`, from installed plugins, and from a user's own file (`SONANT_REGISTRY`, or `--registry`),
later ones replacing earlier ones of the same name. A checksum or size stands in a card only if somebody saw the file.
"""

from __future__ import annotations

import difflib
import fnmatch
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from attrs import field, frozen

from sonant import config as configs
from sonant import index, plugins
from sonant.errors import ConfigError, UnknownName


@frozen(kw_only=True)
class ModelSource:
    """Where the weights are: exactly one of a Hugging Face repo, a URL, a file, or a file inside an installed package."""

    hf: str | None = None
    revision: str | None = None
    file: str | None = None
    url: str | None = None
    package: str | None = None
    sha256: str | None = None
    size: int | None = None

    def __attrs_post_init__(self) -> None:
        if not (self.hf or self.url or self.package or self.file):
            raise ValueError("source needs one of hf, url, package or file")


@frozen(kw_only=True)
class ModelCard:
    """A model by name."""

    name: str
    task: str
    summary: str
    source: ModelSource
    languages: list[str] = field(factory=list)
    sample_rate: int = 16000
    parameters: str | None = None
    requires: list[str] = field(factory=list)
    format: Literal["nemo", "sonant"] = "nemo"
    license: str | None = None
    origin: str | None = None


def read_cards(entries: Mapping[str, Any], origin: str) -> dict[str, ModelCard]:
    """The cards under `models:` of one file.

    Raises:
        ConfigError: a card has an unknown key or lacks one.
    """
    cards = {}
    for name, values in entries.items():
        if not isinstance(values, Mapping):
            raise ConfigError(f"{origin}: models.{name} is not a mapping")
        cards[name] = configs.fill(ModelCard, {"name": name, **values}, f"{origin}: models.{name}")
    return cards


def all_cards(extra: Path | str | None = None) -> dict[str, ModelCard]:
    """Every known card by name. `extra` (or `SONANT_REGISTRY`) is a user's file of the form of `registry.yaml`."""
    cards = read_cards(index.packaged().get("models") or {}, "registry.yaml")
    for plugin in plugins.installed():
        for file in plugin.cards:
            data = yaml.safe_load(file.read_text("utf-8")) or {}
            cards |= read_cards(data.get("models") or {}, f"{plugin.distribution}: {file.name}")
    user = extra or os.environ.get("SONANT_REGISTRY")
    if user:
        cards |= read_cards(configs.load_yaml(user).get("models") or {}, str(user))
    return cards


def matching(pattern: str = "*", extra: Path | str | None = None) -> list[ModelCard]:
    """Cards whose name matches a shell-style pattern; a plain word matches anywhere in the name."""
    if not any(c in pattern for c in "*?["):
        pattern = f"*{pattern}*"
    return [card for name, card in sorted(all_cards(extra).items()) if fnmatch.fnmatch(name, pattern)]


def find(name: str, extra: Path | str | None = None) -> ModelCard | None:
    """The card called `name`, by its own name or by its Hugging Face repo id."""
    cards = all_cards(extra)
    return cards.get(name) or next((c for c in cards.values() if c.source.hf == name), None)


def unknown(name: str, extra: Path | str | None = None) -> UnknownName:
    """The error for a name that is neither a file nor a card nor a repo id."""
    known = [*all_cards(extra)]
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(repr(c) for c in close)}? " if close else ""
    return UnknownName(
        f"{name!r} is no file, folder or known model. {hint}`sonant models` lists the known ones; "
        "a Hugging Face repo is named as owner/repo, a file by its path"
    )
