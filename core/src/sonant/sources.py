"""What the name of a model means: a path on disk, a model card, or a repo of the hub, fetched if need be."""

from __future__ import annotations

from pathlib import Path

from sonant import cards, hub
from sonant.cards import ModelCard
from sonant.errors import CheckpointError
from sonant.layout import CONFIG_SUFFIXES


def locate(source: str | Path, *, revision: str | None = None, registry: str | Path | None = None) -> Path:
    """The local file or folder that `source` means, fetched if need be; see `sonant.load`."""
    return find(source, revision=revision, registry=registry)[0]


def find(source: str | Path, *, revision: str | None = None, registry: str | Path | None = None) -> tuple[Path, ModelCard | None]:
    """What `locate` gives, and the model card that `source` named, by its own name or that of its repo."""
    path = Path(source).expanduser()
    if path.exists():
        return path, None
    name = str(source)
    if isinstance(source, Path) or path.suffix in (".nemo", *CONFIG_SUFFIXES) or name.startswith((".", "/", "~")):
        raise CheckpointError(f"there is no file or folder {name}")
    name, _, pinned = name.partition("@")
    card = cards.find(name, registry)
    if card is not None:
        return hub.fetch_card(card, pinned or revision), card
    if name.count("/") == 1:
        return hub.fetch_repo(name, pinned or revision), None
    raise cards.unknown(str(source), registry)
