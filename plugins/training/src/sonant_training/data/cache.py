"""Decoded audio in memory, as 16-bit samples, shared by the processes that read ahead: what one decoded, all have.

It is memory that a fork shares. What is stored of an example never changes, so nobody need wait for anybody: two that decode the
same example at once write the same bytes.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from sonant.audio import Samples
from sonant_training.errors import DataError

_SCALE = 32768.0
_MOST = 0.8  # of the memory of the machine
_ALL = slice(None)


class Cache:
    """A place for the samples of each of some recordings, `(N,)` int16, of at most `sizes` samples each."""

    def __init__(self, sizes: npt.NDArray[np.int64]) -> None:
        """Reserve the places; memory is taken as they are filled.

        Raises:
            DataError: the machine has not enough memory.
        """
        self._sizes = sizes
        self._starts = np.cumsum(sizes) - sizes
        total = int(sizes.sum()) * 2
        if total > _MOST * _memory():
            raise DataError(
                f"cache: the decoded audio takes {total / 1e9:.1f} GB, and this machine has {_memory() / 1e9:.1f} GB; "
                "leave `cache` out, or give `perturb.speed` fewer values"
            )
        self._samples = np.frombuffer(mmap.mmap(-1, max(total, 2)), dtype=np.int16)
        self._lengths = np.frombuffer(mmap.mmap(-1, max(8 * len(sizes), 8)), dtype=np.int64)  # 0: not there yet

    def __reduce__(self) -> tuple[type[Cache], tuple[npt.NDArray[np.int64]]]:
        return Cache, (self._sizes,)  # a process that is not forked has one of its own

    def get(self, index: int, make: Callable[[], Samples], piece: slice = _ALL) -> Samples:
        """The samples of a recording, or a piece of them, made if they are not there yet; rounded to 16 bits either way."""
        start = int(self._starts[index])
        length = int(self._lengths[index])
        if length:
            return _floats(self._samples[start : start + length][piece])
        rounded = np.clip(np.rint(make() * np.float32(_SCALE)), -_SCALE, _SCALE - 1).astype(np.int16)
        if 0 < len(rounded) <= self._sizes[index]:
            self._samples[start : start + len(rounded)] = rounded
            self._lengths[index] = len(rounded)  # last: what is read from now on is whole
        return _floats(rounded[piece])


def _floats(samples: npt.NDArray[np.int16]) -> Samples:
    return samples * np.float32(1 / _SCALE)


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):  # not told here
        return 2**62
