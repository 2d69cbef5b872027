"""What the name of a model means: a path on disk, a model card, or a repo of the hub, fetched if need be."""

from __future__ import annotations

from pathlib import Path

from sonant import cards, hub
from sonant.cards import ModelCard
from sonant.errors import CheckpointError
from sonant.layout import CONFIG_SUFFIXES


def locate(source: str | Path, *, revision: str | None = None, registry: str | Path | None = None) -> Path:
    """The local file or folder that `source` means, fetched if need be; see `sonant.load`."""
    path = Path(source).expanduser()
    if path.exists():
        return path
    name = str(source)
    if isinstance(source, Path) or path.suffix in (".nemo", *CONFIG_SUFFIXES) or name.startswith((".", "/", "~")):
        raise CheckpointError(f"there is no file or folder {name}")
    name, _, pinned = name.partition("@")
    card = card_of(source, registry)
    if card is not None:
        return hub.fetch_card(card, pinned or revision)
    if name.count("/") == 1:
        return hub.fetch_repo(name, pinned or revision)
    raise cards.unknown(str(source), registry)


def card_of(source: str | Path, registry: str | Path | None = None) -> ModelCard | None:
    """The model card that `source` names, by its own name or that of its repo; None for what lies on disk."""
    if isinstance(source, Path) or Path(source).expanduser().exists():
        return None
    return cards.find(source.partition("@")[0], registry)
