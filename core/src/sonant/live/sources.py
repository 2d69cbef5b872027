"""Audio from a pipe, and from a file as if it were spoken now."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np

from sonant.audio import Samples
from sonant.live import pcm
from sonant.live.pieces import Handover, Piece

_ROOM = 64  # pieces of a pipe that wait: a file that is piped in comes faster than it is worked on
_PACE = 0.02  # seconds between the pieces of a file


def piped(stream: BinaryIO, sample_rate: int, *, channel: int | None = None) -> Iterator[Piece]:
    """Audio from a pipe, as it comes: wav of any rate, or 16-bit little-endian mono samples at `sample_rate`.

    Args:
        stream: standard input's buffer, a socket's file, …
        sample_rate: in Hz, of the samples that come out.
        channel: which one to hear, from 0; None averages all.

    Raises:
        AudioError: it is something else.
    """
    read = getattr(stream, "read1", None) or stream.read  # `read1` gives what is there, without waiting for more
    layout, start = pcm.open_stream(read, sample_rate)
    pieces = Handover(sample_rate, _ROOM)
    pieces.fill(resampled(pcm.samples(read, layout, start, channel), layout.rate, sample_rate))
    return iter(pieces)


def paced(samples: Samples, sample_rate: int) -> Iterator[Piece]:
    """A recording `(N,)` piece by piece, each when it would have been heard. Who is late finds longer pieces waiting."""
    begin, at = time.monotonic(), 0
    while at < len(samples):
        due = max(int((time.monotonic() - begin) * sample_rate), at + round(_PACE * sample_rate))
        end = min(len(samples), due, at + sample_rate)
        arrived = begin + end / sample_rate
        time.sleep(max(0.0, arrived - time.monotonic()))
        yield Piece(samples[at:end], arrived)
        at = end


def resampled(pieces: Iterable[Samples], rate: int, wanted: int) -> Iterator[Samples]:
    """Pieces at `rate` to pieces at `wanted`, in Hz, with no seams between them."""
    if rate == wanted:
        yield from pieces
        return
    import soxr

    resampler = soxr.ResampleStream(rate, wanted, 1, dtype="float32", quality="HQ")
    for piece in pieces:
        yield from _some(resampler.resample_chunk(piece))
    yield from _some(resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True))


def _some(samples: Samples) -> Iterator[Samples]:
    if len(samples):
        yield samples
