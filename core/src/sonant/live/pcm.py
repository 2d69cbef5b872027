"""Samples out of a stream of bytes that cannot be rewound: a wav file as it comes, or bare samples.

The header of RIFF/WAVE is that of Microsoft's "Multimedia Programming Interface and Data Specifications 1.0" (1991), with
WAVE_FORMAT_EXTENSIBLE. Programs that write to a pipe do not know the length, so that of the data is not looked at.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from attrs import frozen

from sonant.audio import Samples
from sonant.errors import AudioError

Read = Callable[[int], bytes]

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_MOST_CHANNELS = 64
_LARGEST_CHUNK = 2**20  # of a header; what comes before the data is names and dates
_OTHERS = {b"fLaC": "flac", b"OggS": "ogg", b"ID3": "mp3", b"\xff\xfb": "mp3", b"\x1a\x45\xdf\xa3": "webm", b"FORM": "aiff"}
_AS_WAV = "make it wav on the way: `ffmpeg -i … -f wav - | …`"


@frozen
class Layout:
    """How samples lie in bytes: rate in Hz, channels, bits of a sample, and whether these are floating-point numbers."""

    rate: int
    channels: int = 1
    bits: int = 16
    floating: bool = False

    @property
    def frame(self) -> int:
        """Bytes of one sample of all channels."""
        return self.channels * self.bits // 8


def open_stream(read: Read, rate: int) -> tuple[Layout, bytes]:
    """Look at the beginning: the layout, and bytes that were read and are samples already.

    A stream without a header is 16-bit little-endian mono at `rate`.

    Raises:
        AudioError: it is something else, which is named.
    """
    start = _exactly(read, 4)
    if start == b"RIFF":
        return _wav_header(read), b""
    for magic, name in _OTHERS.items():
        if start.startswith(magic):
            raise AudioError(f"the stream is {name}; only wav and bare samples can be read as they come: {_AS_WAV}")
    return Layout(rate), start


def samples(read: Read, layout: Layout, start: bytes, channel: int | None = None) -> Iterator[Samples]:
    """Mono samples `(N,)` as they come: channels averaged, or the one that is named.

    Raises:
        AudioError: there is no such channel, or a sample is no number.
    """
    if channel is not None and not 0 <= channel < layout.channels:
        raise AudioError(f"there is no channel {channel}: the stream has {layout.channels}, numbered from 0")
    rest, more = start, b"-"
    while more:
        more = read(2**16)
        rest += more
        whole = len(rest) // layout.frame * layout.frame
        if whole:
            yield _mono(_decode(rest[:whole], layout), channel)
        rest = rest[whole:]


def _mono(frames: npt.NDArray[np.float32], channel: int | None) -> Samples:
    mono: Samples = frames.mean(axis=1, dtype=np.float32) if channel is None else np.ascontiguousarray(frames[:, channel])
    if not np.isfinite(mono).all():
        raise AudioError("the stream holds samples that are not finite numbers")
    return mono


def _decode(data: bytes, layout: Layout) -> npt.NDArray[np.float32]:
    """Bytes to `(N, C)` in [-1, 1]."""
    values: npt.NDArray[Any]
    if layout.floating:
        values = np.frombuffer(data, f"<f{layout.bits // 8}")
    elif layout.bits == 8:  # the only size that wav stores without a sign
        values = (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
    elif layout.bits == 24:
        parts = np.frombuffer(data, np.uint8).reshape(-1, 3).astype(np.int32)
        values = (parts[:, 0] << 8 | parts[:, 1] << 16 | parts[:, 2] << 24).astype(np.float32) / 2**31
    else:
        values = np.frombuffer(data, f"<i{layout.bits // 8}").astype(np.float32) / 2 ** (layout.bits - 1)
    return values.astype(np.float32, copy=False).reshape(-1, layout.channels)


def _wav_header(read: Read) -> Layout:
    _exactly(read, 4)  # the length of it all, which nobody knows yet
    if _exactly(read, 4) != b"WAVE":
        raise AudioError(f"the stream is RIFF and not WAVE: {_AS_WAV}")
    layout: Layout | None = None
    while True:
        name, size = struct.unpack("<4sI", _whole(read, 8))
        if name == b"data":
            if layout is None:
                raise AudioError("the stream's wav header has no format before its data")
            return layout
        if size > _LARGEST_CHUNK:
            raise AudioError(f"the stream's wav header has a part {name!r} of {size} bytes before its data")
        content = _whole(read, size + size % 2)
        if name == b"fmt ":
            layout = _layout(content)


def _layout(content: bytes) -> Layout:
    if len(content) < 16:
        raise AudioError("the stream's wav header is cut short")
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", content)
    if tag == _EXTENSIBLE and len(content) >= 26:
        (tag,) = struct.unpack_from("<H", content, 24)
    known = (tag == _PCM and bits in (8, 16, 24, 32)) or (tag == _FLOAT and bits in (32, 64))
    if not known or not 1 <= channels <= _MOST_CHANNELS or not 1000 <= rate <= 1_000_000:
        raise AudioError(f"the stream is wav of format {tag}, {bits} bits, {channels} channels at {rate} Hz: {_AS_WAV}")
    return Layout(rate, channels, bits, tag == _FLOAT)


def _exactly(read: Read, count: int) -> bytes:
    """So many bytes, or fewer at the end."""
    data = b""
    while len(data) < count:
        more = read(count - len(data))
        if not more:
            break
        data += more
    return data


def _whole(read: Read, count: int) -> bytes:
    data = _exactly(read, count)
    if len(data) < count:
        raise AudioError("the stream ends within its wav header")
    return data
