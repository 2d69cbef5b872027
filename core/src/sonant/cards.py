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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from sonant import config as configs
from sonant import index, plugins
from sonant.errors import ConfigError, DuplicateName, UnknownName
from sonant.plugins import Plugin

log = logging.getLogger(__name__)


@frozen(kw_only=True)
class ModelSource:
    """Where the weights are: a Hugging Face repo, a URL, a file inside an installed package, or a file on disk.

    `sha256` and `size` are those of the file; of a model folder, those of its `model.safetensors`.
    """

    hf: str | None = field(default=None, metadata={"help": "a Hugging Face repo, `owner/repo`"})
    revision: str | None = field(default=None, metadata={"help": "of the repo; a commit hash pins the content"})
    file: str | None = field(
        default=None, metadata={"help": "which of the repo's; or, without hf, a path, relative to the card's file"}
    )
    url: str | None = field(default=None, metadata={"help": "an http or https address of a `.nemo` file"})
    package: str | None = field(
        default=None, metadata={"help": "a file in an installed package, `package:path/inside`; the package is not imported"}
    )
    sha256: str | None = field(default=None, metadata={"help": "of the file, 64 hexadecimal digits; other content is refused"})
    size: int | None = field(default=None, metadata={"help": "of the file, in bytes; another is refused"})

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

    name: str = field(metadata={"help": "what it is opened by; in a file the key, not a field"})
    task: str = field(metadata={"help": "the name of its task, as `asr`"})
    summary: str = field(metadata={"help": "one line"})
    source: ModelSource = field(metadata={"help": "where it is: a `ModelSource`"})
    languages: list[str] = field(factory=list, metadata={"help": "two-letter codes"})
    sample_rate: int = field(default=16000, metadata={"help": "of the audio it was trained on, in Hz"})
    parameters: str | None = field(default=None, metadata={"help": "how many, as `0.6B`"})
    requires: list[str] = field(
        factory=list, metadata={"help": "distributions without which it cannot be opened; checked before anything is fetched"}
    )
    license: str | None = field(default=None, metadata={"help": "of the weights, as an SPDX identifier"})
    origin: str | None = field(default=None, metadata={"help": "the page that tells more"})


@frozen
class _Entry:
    """A card as it stands in a file. Filled and checked when it is asked for: most never are."""

    name: str
    values: Mapping[str, Any]
    origin: str
    plugin: Plugin | None = None
    folder: Path | None = None

    @property
    def repo(self) -> Any:
        source = self.values.get("source")
        return source.get("hf") if isinstance(source, Mapping) else None

    def card(self) -> ModelCard:
        card = configs.fill(ModelCard, {"name": self.name, **self.values}, f"{self.origin}: models.{self.name}")
        assert isinstance(card, ModelCard)
        if self.folder is None or card.source.file is None or card.source.hf:
            return card
        return evolve(card, source=evolve(card.source, file=str(self.folder / Path(card.source.file).expanduser())))


def _entries(data: Mapping[str, Any], origin: str, plugin: Plugin | None = None, folder: Path | None = None) -> list[_Entry]:
    for key in data:
        if key not in ("components", "models"):
            raise ConfigError(f"{origin}: {key}: unknown section; the sections are components and models")
    models = data.get("models") or {}
    if not isinstance(models, Mapping):
        raise ConfigError(f"{origin}: models: expected a mapping from names to cards, not a {type(models).__name__}")
    for name, values in models.items():
        if not isinstance(name, str) or not isinstance(values, Mapping) or "name" in values:
            raise ConfigError(f"{origin}: models.{name}: expected a name and below it the other fields of the card")
    return [_Entry(name, values, origin, plugin, folder) for name, values in models.items()]


def read_cards(data: Mapping[str, Any], origin: str) -> dict[str, ModelCard]:
    """The cards under `models:` of one file of the form of `registry.yaml`.

    Raises:
        ConfigError: the file has other sections than `components` and `models`, or a card has an unknown key or lacks one.
    """
    return {entry.name: entry.card() for entry in _entries(data, origin)}


def _claims(extra: Path | str | None) -> dict[str, list[_Entry]]:
    """What stands in the files for each name: more than one entry only where plugins compete."""
    claims = {entry.name: [entry] for entry in _entries(index.packaged(), "registry.yaml")}
    for plugin in plugins.installed():
        for entry in _entries_of(plugin):
            others = [e for e in claims.get(entry.name, []) if e.plugin not in (None, plugin)]
            claims[entry.name] = [*others, entry]
    user = extra or os.environ.get("SONANT_REGISTRY")
    if user:
        entries = _entries(configs.load_yaml(user), str(user), folder=Path(user).parent)
        claims |= {entry.name: [entry] for entry in entries}
    return claims


def _entries_of(plugin: Plugin) -> list[_Entry]:
    found = []
    for file in plugin.cards:
        try:
            data = configs.parse_yaml(file.read_text("utf-8"), file.name)
            found += _entries(data, f"{plugin.label}: {file.name}", plugin, file.parent if isinstance(file, Path) else None)
        except (ConfigError, OSError, UnicodeDecodeError) as error:  # a broken plugin never breaks the host
            log.warning("%s: its model cards cannot be used: %s", plugin.label, error)
    return found


def matching(pattern: str = "*", extra: Path | str | None = None) -> list[ModelCard]:
    """The known cards whose name matches a shell-style pattern; a plain word matches anywhere in the name.

    `extra` (or `SONANT_REGISTRY`) is a user's file of the form of `registry.yaml`.

    Raises:
        ConfigError: a card of the user's file is wrong. Those of plugins are left out with a warning.
    """
    if not any(c in pattern for c in "*?["):
        pattern = f"*{pattern}*"
    found = []
    for name, entries in sorted(_claims(extra).items()):
        if fnmatch.fnmatchcase(name, pattern):
            try:
                found.append(entries[0].card())
            except ConfigError as error:
                if entries[0].plugin is None:
                    raise
                log.warning("%s", error)
    return found


def find(name: str, extra: Path | str | None = None) -> ModelCard | None:
    """The card called `name`, by its own name or by its Hugging Face repo id; `extra` as in `matching`.

    Raises:
        DuplicateName: more than one distribution has a card of that name.
        ConfigError: the card is wrong.
    """
    claims = _claims(extra)
    of_repo = (entries for entries in reversed(claims.values()) if any(entry.repo == name for entry in entries))
    found = claims.get(name) or next(of_repo, None)
    if found is None:
        return None
    if len(found) > 1:
        owners = " and ".join(entry.plugin.label for entry in found if entry.plugin)
        raise DuplicateName(f"the model {name!r} is registered by {owners}; uninstall one, or set SONANT_PLUGINS")
    return found[0].card()


def unknown(name: str, extra: Path | str | None = None) -> UnknownName:
    """The error for a name that is neither a file nor a card nor a repo id."""
    close = difflib.get_close_matches(name, _claims(extra), n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(repr(c) for c in close)}? " if close else ""
    return UnknownName(
        f"{name!r} is no file, folder or known model. {hint}`sonant models` lists the known ones; "
        f"a Hugging Face repo is named as owner/repo, a file by its path. {plugins.mention_failed(plugins.installed())}".strip()
    )
