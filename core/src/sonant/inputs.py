"""What users hand to a task: files, folders, manifests, arrays, file objects, mixed as they like."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from io import BytesIO
from numbers import Real
from pathlib import Path
from typing import Any

from attrs import field, frozen

from sonant import audio
from sonant.errors import AudioError


@frozen
class Item:
    """One recording, or a piece of one, to be processed.

    `folder` is the one it was found in, where a folder was given.
    """

    source: Any = field(repr=False)
    name: str
    offset: float = 0.0
    duration: float | None = None
    row: dict[str, Any] = field(factory=dict, repr=False)
    folder: Path | None = field(default=None, repr=False)

    def read(self, sample_rate: int, channel: int | None = None) -> audio.Samples:
        """Its samples; see `sonant.audio.read`."""
        return audio.read(self.source, sample_rate, channel=channel, offset=self.offset, duration=self.duration)

    def seconds(self, sample_rate: int) -> float:
        """Its duration; see `sonant.audio.seconds`."""
        if self.duration is not None:
            return self.duration
        return max(0.0, audio.seconds(self.source, sample_rate) - self.offset)


def expand(sources: Any) -> list[Item]:
    """One or many sources as a flat list of items, in order.

    A folder gives the audio files below it, sorted; a `.jsonl` or `.json` manifest its rows (`audio_filepath`, relative to the
    manifest; optional `offset` and `duration` in seconds); anything else is one recording.

    Raises:
        AudioError: a folder without audio files, or a manifest row that cannot be read (with its line).
    """
    if isinstance(sources, (str, Path, tuple)) or not isinstance(sources, Iterable) or _is_recording(sources):
        sources = [sources]
    return [item for n, source in enumerate(sources) for item in _expand_one(source, n)]


def _is_recording(value: Any) -> bool:
    """Arrays, tensors, file objects and lists of numbers are iterable, and yet one recording."""
    if hasattr(value, "read") or hasattr(value, "__array__") or hasattr(value, "detach"):
        return True
    return isinstance(value, list) and bool(value) and isinstance(value[0], Real)


def _expand_one(source: Any, number: int) -> Iterator[Item]:
    if isinstance(source, Item):
        yield source
    elif isinstance(source, (str, Path)):
        path = _path(source)
        if path.is_dir():
            yield from _folder(path)
        elif path.suffix in (".jsonl", ".json") and path.exists():
            yield from _manifest(path)
        elif path.is_fifo():  # can be read once only, and an item is read twice
            yield Item(BytesIO(path.read_bytes()), str(source))
        else:
            yield Item(path, str(source))
    else:
        name = getattr(source, "name", None)  # of a file; tensors have one too, of another kind
        name = name if isinstance(name, str) else f"input {number}"
        yield Item(audio.rewindable(source) if hasattr(source, "read") else source, name)


def _path(name: str | Path) -> Path:
    """With `~` as the home folder; `~x.wav` is a file's name."""
    path = Path(name)
    return path.expanduser() if path.parts[:1] == ("~",) else path


def _folder(folder: Path) -> Iterator[Item]:
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in audio.EXTENSIONS and p.is_file())
    if not found:
        raise AudioError(f"{folder}: no audio files in this folder; looked for {' '.join(sorted(audio.EXTENSIONS))}")
    yield from (Item(path, str(path), folder=folder) for path in found)


def _manifest(path: Path) -> Iterator[Item]:
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AudioError(f"{path}: not a manifest: {error}") from error
    for number, line in enumerate(text.split("\n"), start=1):  # `splitlines` would split at U+2028 in a text, too
        if not line.strip():
            continue
        try:
            item = _item(json.loads(line), path.parent)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise AudioError(
                f'{path}:{number}: not a manifest row ({error!r}); expected {{"audio_filepath": "…", "duration": seconds}}'
            ) from error
        yield item


def _item(row: dict[str, Any], folder: Path) -> Item:
    name = row["audio_filepath"]
    offset = _number(row.get("offset") or 0.0)
    duration = None if row.get("duration") is None else _number(row["duration"])
    # `duration` without `offset` describes the whole file; reading to its end forgives rounding.
    return Item(folder / _path(name), str(name), offset, duration if "offset" in row else None, row)


def _number(value: Any) -> float:
    seconds = float(value)
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{value} seconds")
    return seconds
