"""Where the page finds the audio of an utterance: a link to the file, or the samples inside the page."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import quote

import soundfile

from sonant.audio import Samples
from sonant.errors import AudioError
from sonant.inputs import Item
from sonant_asr.evaluation.manifest import Key, Row

MOST_EMBEDDED: Final = 50_000_000
"""Bytes of audio in a page; the utterances after that are linked."""

_SAMPLE_RATE: Final = 16_000


def linked(rows: Iterable[Row], folder: Path) -> dict[Key, str]:
    """Addresses relative to `folder`, where the page lies; none for a file that is not there."""
    return {row.key: _address(row.item, folder) for row in rows if Path(row.item.source).is_file()}


def embedded(rows: Iterable[Row], channel: int | None = None, most: int = MOST_EMBEDDED) -> dict[Key, str]:
    """The audio itself, 16 kHz, mono, as flac, in the order of the rows until there are `most` bytes of it.

    A recording that cannot be read has none.
    """
    found: dict[Key, str] = {}
    size = 0
    for row in rows:
        if row.key in found:
            continue
        try:
            address = f"data:audio/flac;base64,{_flac(row.item.read(_SAMPLE_RATE, channel))}"
        except (AudioError, OSError):
            continue
        size += len(address)
        if size > most:
            break
        found[row.key] = address
    return found


def _address(item: Item, folder: Path) -> str:
    path = os.path.abspath(item.source)
    try:
        address = quote(os.fsencode(Path(os.path.relpath(path, folder)).as_posix()))
    except ValueError:  # on Windows: another drive
        address = Path(path).as_uri()
    if item.duration is not None:
        return f"{address}#t={item.offset:.3f},{item.offset + item.duration:.3f}"
    return f"{address}#t={item.offset:.3f}" if item.offset else address


def _flac(samples: Samples) -> str:
    file = io.BytesIO()
    soundfile.write(file, samples, _SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return base64.b64encode(file.getvalue()).decode("ascii")
