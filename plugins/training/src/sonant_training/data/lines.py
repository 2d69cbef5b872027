"""A file of JSON lines that stays on disk: where each line begins is kept, and a line is parsed when it is wanted.

Objects of Python cost a kilobyte a row, and each process that reads ahead would come to have its own copy of them.
"""

from __future__ import annotations

import gzip
import json
import mmap
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sonant_training.data.limits import MOST_BYTES
from sonant_training.errors import DataError


class Lines:
    """The lines of a `.jsonl` file, or of a `.jsonl.gz`, which is unpacked in memory. Empty lines have a number and no place."""

    def __init__(self, path: Path) -> None:
        """Find where the lines begin.

        Raises:
            DataError: the file cannot be read, or is empty.
        """
        self.path = path
        try:
            self._data = _bytes(path)
        except (OSError, EOFError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{path}: the manifest cannot be read: {reason}") from error
        content = np.frombuffer(self._data, dtype=np.uint8)
        ends = np.flatnonzero(content == ord("\n"))
        if len(content) and (len(ends) == 0 or ends[-1] != len(content) - 1):
            ends = np.append(ends, len(content))
        starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
        if content[:3].tobytes() == b"\xef\xbb\xbf" and len(starts):
            starts[0] = 3  # a byte order mark
        self._starts: npt.NDArray[np.int64] = starts.astype(np.int64)
        self._ends: npt.NDArray[np.int64] = ends.astype(np.int64)

    def __len__(self) -> int:
        return len(self._starts)

    def parse(self, index: int) -> dict[str, Any] | None:
        """The JSON object on line `index`, counted from 0; None for an empty line.

        Raises:
            ValueError: the line is not a JSON object.
        """
        size = int(self._ends[index] - self._starts[index])
        if size > MOST_BYTES:
            raise ValueError(f"the line has {size:,} bytes; a row has at most {MOST_BYTES:,}")
        text = bytes(self._data[self._starts[index] : self._ends[index]])
        if not text.strip():
            return None
        try:
            value = json.loads(text)
        except RecursionError as error:
            raise ValueError("brackets within brackets without end") from error
        if not isinstance(value, dict):
            raise ValueError(f"expected an object {{…}}, not {value!r:.40}")
        return value

    def where(self, index: int) -> str:
        """`train.jsonl:17`, for messages."""
        return f"{self.path}:{index + 1}"

    def __reduce__(self) -> tuple[type[Lines], tuple[Path]]:
        return Lines, (self.path,)  # a process that is not forked opens the file itself


def _bytes(path: Path) -> bytes | mmap.mmap:
    if path.suffix == ".gz":
        with gzip.open(path) as packed:
            return packed.read()
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
