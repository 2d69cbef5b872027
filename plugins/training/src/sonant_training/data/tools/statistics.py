"""What manifests hold: how much audio, of whom, how long, which words and characters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from attrs import define, field, frozen
from tqdm import tqdm

from sonant import audio
from sonant.errors import AudioError
from sonant_training.data.tools import rows
from sonant_training.data.tools.rows import Row
from sonant_training.data.tools.threads import in_order

PERCENTILES: Final[Mapping[str, float]] = {"least": 0, "1 %": 1, "5 %": 5, "median": 50, "95 %": 95, "99 %": 99, "most": 100}
MEASURES: Final = ("seconds", "characters", "words", "characters a second", "words a second")
_MOST_WORDS: Final = 100  # in JSON
Values = npt.NDArray[np.float64]


@frozen
class Entry:
    """A row as it counts: its duration in seconds, its text, where it stands."""

    row: Row
    seconds: float
    text: str

    @property
    def pace(self) -> float:
        """Characters a second."""
        return len(self.text) / self.seconds if self.seconds > 0 else 0.0


@define
class Tally:
    """The rows of a speaker or a language."""

    rows: int = 0
    seconds: float = 0.0


@define
class Statistics:
    """Counts over manifests. Words are what white space separates; nothing is normalized."""

    manifests: tuple[str, ...]
    entries: list[Entry] = field(factory=list)
    unread: int = 0
    speakers: dict[str, Tally] = field(factory=dict)
    languages: dict[str, Tally] = field(factory=dict)
    words: Counter[str] = field(factory=Counter)
    characters: Counter[str] = field(factory=Counter)
    first: dict[str, str] = field(factory=dict)

    def add(self, row: Row, seconds: float) -> None:
        """Count a row."""
        text = (row.text or "").strip()
        self.entries.append(Entry(row, seconds, text))
        self.words.update(text.split())
        self.characters.update(text)
        for character in set(text) - self.first.keys():
            self.first[character] = row.where
        for key, groups in (("speaker", self.speakers), ("lang", self.languages)):
            if (name := row.values.get(key)) is not None:
                group = groups.setdefault(str(name), Tally())
                group.rows += 1
                group.seconds += seconds

    @property
    def seconds(self) -> float:
        """Of audio."""
        return float(sum(entry.seconds for entry in self.entries))

    def values(self, measure: str) -> Values:
        """One of `MEASURES` for every row where it has a meaning: paces need a text and a duration."""
        found = (_measured(entry, measure) for entry in self.entries)
        return np.array([value for value in found if value is not None], dtype=np.float64)

    def spread(self) -> dict[str, dict[str, float]]:
        """The percentiles and the mean of every measure that has values."""
        found: dict[str, dict[str, float]] = {}
        for measure in MEASURES:
            values = self.values(measure)
            if len(values):
                at = np.percentile(values, list(PERCENTILES.values()))
                found[measure] = {
                    **{name: float(value) for name, value in zip(PERCENTILES, at, strict=True)},
                    "mean": float(values.mean()),
                }
        return found

    def largest(self, groups: Mapping[str, Tally]) -> list[tuple[str, Tally]]:
        """Groups from the one with the most audio down."""
        return sorted(groups.items(), key=lambda item: (-item[1].seconds, -item[1].rows, item[0]))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "manifests": list(self.manifests),
            "rows": len(self.entries),
            "unread": self.unread,
            "seconds": round(self.seconds, 3),
            "words": sum(self.words.values()),
            "different_words": len(self.words),
            "words_once": sum(count == 1 for count in self.words.values()),
            "spread": {m: {k: round(v, 4) for k, v in values.items()} for m, values in self.spread().items()},
            "speakers": _groups(self.largest(self.speakers)),
            "languages": _groups(self.largest(self.languages)),
            "characters": dict(self.characters.most_common()),
            "most_frequent_words": dict(self.words.most_common(_MOST_WORDS)),
        }


def _measured(entry: Entry, measure: str) -> float | None:
    if measure == "seconds":
        return entry.seconds
    count = len(entry.text.split()) if measure.startswith("words") else len(entry.text)
    if not measure.endswith("a second"):
        return count or None
    return count / entry.seconds if count and entry.seconds > 0 else None


def _groups(found: Sequence[tuple[str, Tally]]) -> dict[str, dict[str, float]]:
    return {name: {"rows": group.rows, "seconds": round(group.seconds, 3)} for name, group in found}


def collect(manifests: Sequence[Path], *, workers: int | None = None) -> Statistics:
    """Count the rows of manifests. Where a duration is missing, the file's header tells; a row without either is not counted.

    Raises:
        ConfigError: a manifest cannot be read or has no rows.
    """
    statistics = Statistics(tuple(map(str, manifests)))
    untold = []
    for row in tqdm(rows.read(manifests), total=rows.count(manifests), unit="row", disable=None):
        if row.fault:
            statistics.unread += 1
        elif row.duration is None:
            untold.append(row)
        else:
            statistics.add(row, row.duration)
    for row, seconds in tqdm(
        in_order(_with_seconds, untold, workers), total=len(untold), unit="file", disable=None if untold else True
    ):
        if seconds is None:
            statistics.unread += 1
        else:
            statistics.add(row, seconds)
    return statistics


def _with_seconds(row: Row) -> tuple[Row, float | None]:
    try:
        return row, max(0.0, audio.seconds(row.path, 16_000) - row.offset)
    except (AudioError, OSError, ValueError):
        return row, None
