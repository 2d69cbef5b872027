"""Model cards: what `sonant.load` can fetch by name, where from, and under which licence.

Cards come from `registry.yaml`, from installed plugins, and from a user's own file (`SONANT_REGISTRY`, or `--registry`),
later ones replacing earlier ones of the same name; but a name that two plugins claim is an error once it is asked for.
A checksum or size stands in a card only if somebody saw the file.
"""

from __future__ import annotations

import difflib
import fnmatch
import logging
import os
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from attrs import evolve, field, frozen

from sonant import config as configs
from sonant import index, plugins
from sonant.errors import ConfigError, DuplicateName, UnknownName

log = logging.getLogger(__name__)


@frozen(kw_only=True)
class ModelSource:
    """Where the weights are: a Hugging Face repo, a URL, a file inside an installed package, or a file on disk.

    `sha256` and `size` are those of the file; of a model folder, those of its `model.safetensors`.
    """

    hf: str | None = field(default=None, metadata={"help": "owner/repo"})
    revision: str | None = field(default=None, metadata={"help": "of the repo; a commit hash pins the content"})
    file: str | None = field(
        default=None, metadata={"help": "which of the repo's; or, without hf, a path, relative to the card's file"}
    )
    url: str | None = None
    package: str | None = field(default=None, metadata={"help": "package:path/inside"})
    sha256: str | None = None
    size: int | None = None

    def __attrs_post_init__(self) -> None:
        if sum(map(bool, (self.hf, self.url, self.package, self.file and not self.hf))) != 1:
            raise ValueError("source needs one of hf, url, package or file, and of these only hf and file together")
        if self.revision and not self.hf:
            raise ValueError("source.revision is the revision of a Hugging Face repo, and source.hf names none")
        if self.package and not re.fullmatch(r"[\w.]+:.+", self.package):
            raise ValueError(f"source.package {self.package!r} is not of the form package:path/inside")
        if self.sha256 and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"source.sha256 {self.sha256!r} is not 64 lower-case hexadecimal digits")


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


def read_cards(data: Mapping[str, Any], origin: str) -> dict[str, ModelCard]:
    """The cards under `models:` of one file of the form of `registry.yaml`.

    Raises:
        ConfigError: the file has other sections than `components` and `models`, or a card has an unknown key or lacks one.
    """
    for key in data:
        if key not in ("components", "models"):
            raise ConfigError(f"{origin}: {key}: unknown section; the sections are components and models")
    entries = data.get("models") or {}
    if not isinstance(entries, Mapping):
        raise ConfigError(f"{origin}: models: expected a mapping from names to cards, not a {type(entries).__name__}")
    cards = {}
    for name, values in entries.items():
        if not isinstance(name, str) or not isinstance(values, Mapping) or "name" in values:
            raise ConfigError(f"{origin}: models.{name}: expected a name and below it the other fields of the card")
        cards[name] = configs.fill(ModelCard, {"name": name, **values}, f"{origin}: models.{name}")
    return cards


def _claims(extra: Path | str | None) -> dict[str, dict[str, ModelCard]]:
    """The cards of each name, by who provides them: more than one only where plugins compete."""
    packaged = read_cards(index.packaged(), "registry.yaml")
    claims: dict[str, dict[str, ModelCard]] = defaultdict(dict)
    for plugin in plugins.installed():
        for file in plugin.cards:
            try:
                cards = read_cards(configs.parse_yaml(file.read_text("utf-8"), file.name), file.name)
            except (ConfigError, OSError, UnicodeDecodeError) as error:  # a broken plugin never breaks the host
                log.warning("%s: its model cards cannot be used: %s", plugin.label, error)
                continue
            for name, card in cards.items():
                claims[name][plugin.label] = card
    claims = {name: {"registry.yaml": card} for name, card in packaged.items()} | claims
    user = extra or os.environ.get("SONANT_REGISTRY")
    if user:
        cards = read_cards(configs.load_yaml(user), str(user))
        claims |= {name: {str(user): _relative_to(card, Path(user).parent)} for name, card in cards.items()}
    return claims


def _relative_to(card: ModelCard, folder: Path) -> ModelCard:
    source = card.source
    if source.file is None or source.hf:
        return card
    return evolve(card, source=evolve(source, file=str(folder / Path(source.file).expanduser())))


def all_cards(extra: Path | str | None = None) -> dict[str, ModelCard]:
    """Every known card by name. `extra` (or `SONANT_REGISTRY`) is a user's file of the form of `registry.yaml`."""
    return {name: next(iter(cards.values())) for name, cards in _claims(extra).items()}


def matching(pattern: str = "*", extra: Path | str | None = None) -> list[ModelCard]:
    """Cards whose name matches a shell-style pattern; a plain word matches anywhere in the name."""
    if not any(c in pattern for c in "*?["):
        pattern = f"*{pattern}*"
    return [card for name, card in sorted(all_cards(extra).items()) if fnmatch.fnmatch(name, pattern)]


def find(name: str, extra: Path | str | None = None) -> ModelCard | None:
    """The card called `name`, by its own name or by its Hugging Face repo id.

    Raises:
        DuplicateName: more than one distribution has a card of that name.
    """
    claims = _claims(extra)
    found = claims.get(name) or next(
        (cards for cards in reversed(claims.values()) if any(c.source.hf == name for c in cards.values())), None
    )
    if found is None:
        return None
    if len(found) > 1:
        raise DuplicateName(f"the model {name!r} is registered by {' and '.join(found)}; uninstall one, or set SONANT_PLUGINS")
    return next(iter(found.values()))


def unknown(name: str, extra: Path | str | None = None) -> UnknownName:
    """The error for a name that is neither a file nor a card nor a repo id."""
    known = [*all_cards(extra)]
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(repr(c) for c in close)}? " if close else ""
    return UnknownName(
        f"{name!r} is no file, folder or known model. {hint}`sonant models` lists the known ones; "
        f"a Hugging Face repo is named as owner/repo, a file by its path. {plugins.mention_failed(plugins.installed())}".strip()
    )
