"""What a user may ask of long recordings: `auto`, `full`, `local`, `chunks` or `chunks:SECONDS`."""

from __future__ import annotations

import math
from typing import Any, Final, Literal, get_args

from attrs import frozen

from sonant.errors import ConfigError

Mode = Literal["full", "local", "chunks"]
"""How a recording is encoded: by attention to all of it, by attention to a window around each frame, or in pieces."""

CONTEXT: Final = 5.0
"""Seconds heard before and behind each chunk, whose frames are dropped."""

LEAST: Final = 1.0
"""Seconds of the shortest chunk."""


@frozen
class Chunking:
    """The mode asked for, None to decide by length and memory, and how many seconds a chunk has."""

    mode: Mode | None = None
    seconds: float = 30.0


def read(asked: str | Chunking) -> Chunking:
    """What `chunking=` or `--chunking` says.

    Raises:
        ConfigError: it says nothing known.
    """
    if isinstance(asked, Chunking):
        return asked
    name, colon, size = asked.partition(":")
    if name == "auto" and not colon:
        return Chunking()
    if name not in get_args(Mode) or (colon and name != "chunks"):
        raise ConfigError(f"chunking={asked!r}: there are auto, {', '.join(get_args(Mode))} and chunks:SECONDS")
    if not colon:
        return Chunking(name)  # type: ignore[arg-type]
    try:
        seconds = float(size)
    except ValueError:
        seconds = math.nan
    if not LEAST <= seconds < math.inf:
        raise ConfigError(f"chunking={asked!r}: a chunk has {LEAST:g} second or more, as in chunks:30")
    return Chunking("chunks", seconds)


def check(asked: Chunking, encoder: Any) -> Chunking:
    """`asked`, which `encoder` can do.

    Raises:
        ConfigError: it cannot.
    """
    if asked.mode == "local" and not getattr(encoder, "takes_windows", False):
        raise ConfigError("chunking='local': this model's encoder takes no window on its attention; there are full and chunks")
    return asked
