"""All examples of a config, as arrays: how long each is and where it stands. Their rows and audio are read when wanted."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from attrs import frozen

from sonant.audio import Samples
from sonant_training.data import sources
from sonant_training.data.config import DataConfig
from sonant_training.data.faults import Fault
from sonant_training.data.sources import Row, Source
from sonant_training.errors import DataError

log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@frozen(kw_only=True, eq=False)
class Catalog:
    """Examples by number, from 0. `seconds`, `tokens` (0 where nobody asked) and `shard` (the tar file, -1 where there is
    none) are theirs, `source` and `line` their place.

    `faults` are lines that are no examples, `left_out` how many the limits of the config leave out, by the reason.
    """

    sources: tuple[Source, ...]
    source: Integers
    line: Integers
    seconds: Floats
    tokens: Integers
    shard: Integers
    weight: Floats
    faults: tuple[Fault, ...]
    left_out: dict[str, int]
    text_field: str
    needs_text: bool

    def __len__(self) -> int:
        return len(self.line)

    def row(self, index: int) -> Row:
        """What the manifest says of an example, with `text` and `lang`."""
        source = self.sources[self.source[index]]
        parsed = source.lines.parse(int(self.line[index]))
        assert parsed is not None
        return _complete(source.row(parsed), source, self.text_field, self.needs_text)

    def where(self, index: int) -> str:
        """The manifest and line of an example."""
        return self.sources[self.source[index]].lines.where(int(self.line[index]))

    def read(self, index: int, row: Row, sample_rate: int, channel: int | None) -> Samples:
        """The samples of an example."""
        return self.sources[self.source[index]].read(int(self.line[index]), row, sample_rate, channel)


def open_catalog(
    config: DataConfig, folder: Path, count_tokens: Callable[[str], int] | None = None, *, needs_text: bool = True
) -> Catalog:
    """Look through all sources of a config. `count_tokens` is called where the config asks for numbers of tokens.

    An example without a text is bad, unless `needs_text` is false: a task may learn from something else that a row says.

    Raises:
        DataError: a source cannot be opened, a line is bad and `on_bad` says to raise, or nothing is left.
    """
    opened = tuple(sources.open_all(config, folder))
    asked = config.max_tokens is not None or config.num_token_buckets > 1 or _two_dimensional(config)
    count = (count_tokens or len) if asked else None
    faults: list[Fault] = []
    left_out: Counter[str] = Counter()
    columns: dict[str, list[Any]] = {key: [] for key in ("source", "line", "seconds", "tokens", "shard")}
    shards = 0
    for number, source in enumerate(opened):
        for line in range(len(source.lines)):
            try:
                measured = _measure(source, line, config, count, needs_text)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                faults.append(Fault(source.lines.where(line), "", str(error)))
                if config.on_bad == "raise":
                    raise DataError(f"{faults[-1]}; `on_bad: skip` leaves such out") from error
                continue
            if isinstance(measured, str):
                left_out[measured] += 1
            elif measured is not None:
                shard = shards + int(source.shards[line]) if source.shards is not None else -1
                for key, value in zip(columns, (number, line, *measured, shard), strict=True):
                    columns[key].append(value)
        shards += 1 + int(source.shards.max()) if source.shards is not None and len(source.shards) else 0
    if not columns["line"]:
        raise DataError(_nothing_left(opened, faults, left_out))
    source_of = np.array(columns["source"], dtype=np.int64)
    return Catalog(
        sources=opened,
        source=source_of,
        line=np.array(columns["line"], dtype=np.int64),
        seconds=np.array(columns["seconds"], dtype=np.float64),
        tokens=np.array(columns["tokens"], dtype=np.int64),
        shard=np.array(columns["shard"], dtype=np.int64),
        weight=np.array([source.weight for source in opened])[source_of],
        faults=tuple(faults),
        left_out=dict(left_out),
        text_field=config.text_field,
        needs_text=needs_text,
    )


def _two_dimensional(config: DataConfig) -> bool:
    return any(isinstance(item, (list, tuple)) and len(item) == 2 for item in config.bucket_duration_bins)


def _measure(
    source: Source, line: int, config: DataConfig, count: Callable[[str], int] | None, needs_text: bool
) -> tuple[float, int] | str | None:
    """Seconds and tokens of a line's example, or why it is left out, or None for an empty line."""
    parsed = source.lines.parse(line)
    if parsed is None:
        return None
    row = _complete(source.row(parsed), source, config.text_field, needs_text)
    seconds = row["duration"]
    if seconds < config.min_duration:
        return "shorter than min_duration"
    if config.max_duration is not None and seconds > config.max_duration:
        return "longer than max_duration"
    tokens = count(row.get("text", "")) if count is not None else 0
    if config.max_tokens is not None and tokens > config.max_tokens:
        return "more tokens than max_tokens"
    return seconds, tokens


def _complete(row: Row, source: Source, text_field: str, needs_text: bool) -> Row:
    text = row.get(text_field)
    if not isinstance(text, str) and (needs_text or text is not None):
        raise ValueError(
            f"there is no {text_field!r}, which must be a text" if text is None else f"{text_field} {text!r} is no text"
        )
    if text is not None:
        row["text"] = text
    if row.get("lang") is None and source.lang is not None:
        row["lang"] = source.lang
    return row


def _nothing_left(opened: tuple[Source, ...], faults: list[Fault], left_out: Counter[str]) -> str:
    where = ", ".join(str(source.lines.path) for source in opened)
    why = [f"{count} {reason}" for reason, count in left_out.items()]
    if faults:
        why.append(f"{len(faults)} bad, the first: {faults[0]}")
    return f"no example is left of {where}: {'; '.join(why) or 'there are no lines'}"
