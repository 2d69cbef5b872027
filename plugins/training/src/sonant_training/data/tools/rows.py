"""The rows of a manifest one by one, those that are none included: what reads it for training stops at the first of these."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from attrs import field, frozen

from sonant.errors import ConfigError
from sonant_training.data.limits import MOST_BYTES, MOST_SECONDS


@frozen(kw_only=True)
class Row:
    """A line of a manifest, counted from 1. `fault` says why it is not a row, and then `values` may lack anything."""

    manifest: Path
    line: int
    values: dict[str, Any] = field(factory=dict, repr=False)
    fault: str = ""

    @property
    def where(self) -> str:
        """`train.jsonl:12`."""
        return f"{self.manifest}:{self.line}"

    @property
    def name(self) -> str:
        """The file as the manifest writes it."""
        return str(self.values.get("audio_filepath", ""))

    @property
    def path(self) -> Path:
        """The file: relative to the manifest, or absolute."""
        return self.manifest.parent / located(self.name)

    @property
    def text(self) -> str | None:
        """What was said; None where the manifest does not tell."""
        text = self.values.get("text")
        return text if isinstance(text, str) else None

    @property
    def offset(self) -> float:
        """Where in its file it begins, in seconds."""
        return float(self.values.get("offset") or 0.0)

    @property
    def duration(self) -> float | None:
        """In seconds, where the manifest tells."""
        stated = self.values.get("duration")
        return None if stated is None else float(stated)

    @property
    def piece(self) -> tuple[float, float | None]:
        """Offset and duration to read. Without an offset the row is a whole file, of which `duration` is a description."""
        return self.offset, self.duration if self.values.get("offset") is not None else None


def located(name: str) -> Path:
    """A path as a manifest writes it, with `~` as the home folder; `~x.wav` is a file's name."""
    path = Path(name)
    return path.expanduser() if path.parts[:1] == ("~",) else path


def read(manifests: Iterable[Path]) -> Iterator[Row]:
    """The rows of manifests, one after the other; empty lines are none.

    Raises:
        ConfigError: a manifest cannot be read, or there are no rows in any.
    """
    found = False
    for manifest in manifests:
        try:
            with manifest.open("rb") as stream:
                for number, line in enumerate(stream, start=1):
                    if line.strip():
                        found = True
                        yield _row(manifest, number, line)
        except OSError as error:
            raise ConfigError(f"{manifest} cannot be read as a manifest: {error.strerror or error}") from error
    if not found:
        raise ConfigError('there are no rows; a manifest has {"audio_filepath": "…", "text": "…"} on each line')


def count(manifests: Iterable[Path]) -> int:
    """About how many rows there are, for a progress bar."""
    lines = 0
    for manifest in manifests:
        with manifest.open("rb") as stream:
            lines += sum(1 for line in stream if line.strip())
    return lines


def _row(manifest: Path, number: int, line: bytes) -> Row:
    if len(line) > MOST_BYTES:
        return Row(manifest=manifest, line=number, fault=f"{len(line):,} bytes long; a row has at most {MOST_BYTES:,}")
    try:
        values = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except (ValueError, RecursionError) as error:
        return Row(manifest=manifest, line=number, fault=f"not JSON: {error}")
    if not isinstance(values, dict):
        return Row(manifest=manifest, line=number, fault="not an object in braces")
    return Row(manifest=manifest, line=number, values=values, fault=_fault(values))


def _fault(values: dict[str, Any]) -> str:
    name = values.get("audio_filepath")
    if not isinstance(name, str) or not name:
        return "no audio_filepath"
    for key in ("offset", "duration"):
        value = values.get(key)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if value is not None and not (is_number and 0 <= value <= MOST_SECONDS):
            return f"{key} is {value!r:.40}, not a number of seconds"
    return ""
