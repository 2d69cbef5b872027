"""What is evaluated: rows of a manifest with what was said, and rows with what was recognized, matched by name and offset."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import field, frozen

from sonant import inputs
from sonant.errors import ConfigError
from sonant.inputs import Item
from sonant_asr.settings import DECIDES

Key = tuple[str, float | None]
"""`audio_filepath` and `offset` as written; a recording as a whole has no offset."""


@frozen
class Row:
    """One row of a manifest."""

    item: Item
    reference: str

    @property
    def key(self) -> Key:
        """What a hypothesis is matched by."""
        whole = not self.item.offset and "offset" not in self.item.row
        return self.item.name, None if whole else self.item.offset

    @property
    def duration(self) -> float | None:
        """In seconds, where the manifest says it."""
        stated = self.item.row.get("duration")
        return None if stated is None else float(stated)

    @property
    def speaker(self) -> str | None:
        """Where the manifest says it."""
        stated = self.item.row.get("speaker")
        return None if stated is None else str(stated)


@frozen
class Hypothesis:
    """What was recognized; `duration` in seconds of audio and `elapsed` in seconds of computing where known, `by` what did it."""

    text: str
    duration: float | None = None
    elapsed: float | None = None
    by: Mapping[str, Any] = field(factory=dict)


def read_manifest(path: Path) -> list[Row]:
    """Its rows, each with the text that was said.

    Raises:
        AudioError: a line is no manifest row.
        ConfigError: this is no manifest, or a row has no text, or one piece is named with two durations (with the line).
    """
    if path.suffix not in (".jsonl", ".json"):
        raise ConfigError(f"{path} is not a manifest: name a .jsonl file with an audio_filepath and a text on each line")
    items = inputs.expand(path)
    numbers = [number for number, line in enumerate(_lines(path), start=1) if line.strip()]
    rows: list[Row] = []
    first: dict[Key, tuple[int, float | None]] = {}
    for number, item in zip(numbers, items, strict=True):
        text = item.row.get("text")
        if not isinstance(text, str):
            raise ConfigError(f'{path}:{number}: no "text", which says what was said; "" for a recording without words')
        row = Row(item, text)
        before, duration = first.setdefault(row.key, (number, item.duration))
        if duration != item.duration:
            raise ConfigError(
                f"{path}:{number}: begins where line {before} does, and ends elsewhere; "
                "hypotheses are told apart by audio_filepath and offset"
            )
        rows.append(row)
    if not rows:
        raise ConfigError(f"{path} has no rows")
    return rows


def read_hypotheses(path: Path) -> dict[Key, Hypothesis]:
    """What was recognized, by name and offset: as `sonant transcribe` writes it, or with `pred_text` as NeMo does.

    A last line that a killed run left without its end is not a row yet.

    Raises:
        ConfigError: a line is no such row, or two say different things of one piece (with the line).
    """
    found: dict[Key, Hypothesis] = {}
    lines = _lines(path)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            key, heard = hypothesis(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f'{path}:{number}: not a row of hypotheses ({error!r}); expected {{"audio_filepath": "…", "text": "…"}}'
            ) from error
        if found.setdefault(key, heard).text != heard.text:
            raise ConfigError(f"{path}:{number}: another text for {key[0]} than a line before; one piece has one hypothesis")
    return found


def hypothesis(row: dict[str, Any]) -> tuple[Key, Hypothesis]:
    """What a row of hypotheses says, and of which piece.

    Raises:
        KeyError, TypeError, ValueError: it is no such row.
    """
    offset = row.get("offset")
    text = row["pred_text"] if "pred_text" in row else row["text"]
    if not isinstance(row["audio_filepath"], str) or not isinstance(text, str):
        raise TypeError("audio_filepath and text are strings")
    by = {name: row[name] for name in DECIDES if name in row}
    found = Hypothesis(text, _seconds(row.get("duration")), _seconds(row.get("elapsed")), by)
    return (row["audio_filepath"], None if offset is None else _seconds(offset)), found


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    seconds = float(value)
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{value} seconds")
    return seconds


def _lines(path: Path) -> list[str]:
    """As JSON lines are separated: `splitlines` would split at U+2028 in a text, too."""
    try:
        return path.read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def distinct(rows: Sequence[Row]) -> Iterator[Row]:
    """Each piece once, however often the manifest names it."""
    seen: set[Key] = set()
    for row in rows:
        if row.key not in seen:
            seen.add(row.key)
            yield row
