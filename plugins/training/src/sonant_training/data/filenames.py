"""File names that stand for several: `{a,b}` and `{0..127}`, and NeMo's `_OP_0..127_CL_`, which shells leave alone."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sonant_training.errors import DataError

_BRACES = re.compile(r"\{([^{}]*)\}")
_MOST = 1_000_000
_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")


def expand(names: Any, folder: Path) -> list[Path]:
    """The files that a name, or a list of names, stands for, in order; relative ones are in `folder`.

    Raises:
        DataError: it stands for more than anyone has.
    """
    listed = [names] if isinstance(names, str) else list(names)
    return [folder / Path(name).expanduser() for pattern in listed for name in _expand(pattern)]


def _expand(pattern: str) -> Iterator[str]:
    pattern = pattern.replace("_OP_", "{").replace("_CL_", "}")
    pieces = _BRACES.split(pattern)  # text, inside of braces, text, …
    choices = [[piece] if position % 2 == 0 else _choices(piece) for position, piece in enumerate(pieces)]
    number = math.prod(map(len, choices))
    if number > _MOST:
        raise DataError(f"{pattern!r} stands for {number:,} names; at most {_MOST:,} are meant")
    for chosen in itertools.product(*choices):
        yield "".join(chosen)


def _choices(inside: str) -> list[str]:
    match = _RANGE.fullmatch(inside)
    if match is None:
        return inside.split(",")
    first, last = int(match[1]), int(match[2])
    if abs(last - first) >= _MOST:
        raise DataError(f"{{{inside}}} stands for {abs(last - first) + 1:,} names; at most {_MOST:,} are meant")
    width = len(match[1]) if match[1].startswith("0") else 0
    step = 1 if first <= last else -1
    return [str(number).zfill(width) for number in range(first, last + step, step)]
