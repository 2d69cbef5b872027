"""What stands at the beginning of a KenLM binary file, and where its parts lie."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

MAGIC = b"mmap lm http://kheafield.com/code format version "
_SANITY = struct.Struct("<56s3f3IQ")  # values that tell of the machine the file is for
_FIXED = struct.Struct("<B3xfIB3xI")  # as a compiler aligns them
_SANE = (0.0, 1.0, -0.5, 1, 0xFFFFFFFF, 0, 1)
_TYPES = (
    *("probing hash tables", "probing hash tables with rest costs", "trie", "quantized trie"),
    *("trie with compressed pointers", "quantized trie with compressed pointers"),
)
_SUPPORTED = {0: 0, 2: 1, 3: 1, 4: 1, 5: 1}
"""Types, and the version of their layout that is known."""
_MAX_ORDER = 20  # KenLM is built for 6 by default


@frozen
class Header:
    """`counts` are of the n-grams of each length, `multiplier` says how much larger than them hash tables are."""

    counts: tuple[int, ...]
    kind: int
    multiplier: float
    size: int

    @property
    def is_trie(self) -> bool:
        """Rather than hash tables."""
        return self.kind >= 2

    @property
    def is_quantized(self) -> bool:
        """Whether a trie's numbers are indices into tables."""
        return self.kind in (3, 5)

    @property
    def is_compressed(self) -> bool:
        """Whether the high bits of a trie's pointers stand in arrays of their own (Raj and Whittaker, 2003)."""
        return self.kind in (4, 5)


def read_header(data: bytes) -> Header:
    """The header of a file that begins with `MAGIC`.

    Raises:
        ValueError: it is cut off, is of another version or machine, or of a type that is not read.
    """
    if len(data) < _SANITY.size + _FIXED.size:
        raise ValueError("it is a KenLM file that is cut off")
    magic, *sane = _SANITY.unpack_from(data)
    version = magic[len(MAGIC) :].split(b"\n")[0].decode("ascii", "replace")
    if version != "5" or tuple(sane) != _SANE:
        raise ValueError(f"it is a KenLM file of version {version!r} or of another machine; {_AGAIN}")
    order, multiplier, kind, _, layout = _FIXED.unpack_from(data, _SANITY.size)
    if kind not in _SUPPORTED or _SUPPORTED[kind] != layout:
        name = _TYPES[kind] if kind < len(_TYPES) else f"type {kind}"
        raise ValueError(f"it is a KenLM file of {name}, version {layout}, which is not read; {_AGAIN}")
    size = _SANITY.size + _FIXED.size + 8 * order
    if not 2 <= order <= _MAX_ORDER or len(data) < size or not 1.0 <= multiplier < 1e6:
        raise ValueError("it is a KenLM file with a damaged header")
    counts = struct.unpack_from(f"<{order}Q", data, _SANITY.size + _FIXED.size)
    return Header(counts, kind, multiplier, -(-size // 8) * 8)


_AGAIN = "make it again from its ARPA file with build_binary, or give the ARPA file itself"


class Parts:
    """Takes a file's parts one after another.

    Raises:
        ValueError: the file is shorter than its header says.
    """

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = memoryview(data), at

    def take(self, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
        """The next `count` records."""
        return np.frombuffer(self.skip(dtype.itemsize * count), dtype)

    def skip(self, size: int) -> memoryview:
        """The next `size` bytes."""
        if size > len(self.data) - self.at:
            raise ValueError("it is a KenLM file that is cut off, or whose header is damaged")
        self.at += size
        return self.data[self.at - size : self.at]
