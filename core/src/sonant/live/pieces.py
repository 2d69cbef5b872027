"""Pieces of audio, handed from the thread that hears them to the one that works on them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator

import numpy as np
from attrs import frozen

from sonant.audio import Samples

_LONGEST = 1.0  # seconds handed over at once: a worker that fell behind catches up in few steps, and still shows what it has


@frozen
class Piece:
    """Samples `(N,)`, mono float32, and when the last of them was there, in seconds of `time.monotonic`."""

    samples: Samples
    arrived: float


class Handover:
    """A queue of pieces that one thread fills and another empties, as many at once as wait there.

    Args:
        sample_rate: in Hz.
        room: pieces that may wait before the thread that fills it has to; 0 is without end.
    """

    def __init__(self, sample_rate: int, room: int = 0) -> None:
        self._most = round(_LONGEST * sample_rate)
        self._waiting: queue.Queue[Piece | BaseException | None] = queue.Queue(room)
        self._closed = threading.Event()

    def put(self, samples: Samples) -> None:
        """Hand samples over, as arrived now."""
        self._put(Piece(samples, time.monotonic()))

    def end(self, error: BaseException | None = None) -> None:
        """No more will come; an error is raised where the pieces are taken."""
        self._put(error)

    def fill(self, samples: Iterable[Samples]) -> None:
        """Hand over all of `samples` from a thread of its own, and then the end."""
        threading.Thread(target=self._fill, args=(samples,), name="sonant-live", daemon=True).start()

    def _fill(self, samples: Iterable[Samples]) -> None:
        try:
            for some in samples:
                self.put(some)
                if self._closed.is_set():
                    return
            self.end()
        except Exception as error:
            self.end(error)

    def _put(self, item: Piece | BaseException | None) -> None:
        handed = False
        while not handed and not self._closed.is_set():
            try:
                self._waiting.put(item, timeout=0.1)
                handed = True
            except queue.Full:  # whoever takes them is busy, or gone
                continue

    def __iter__(self) -> Iterator[Piece]:
        """What has come, joined; waits while there is nothing. Ends at the end."""
        try:
            while True:
                piece = self._next(block=True)
                if piece is None:
                    return
                joined, count = [piece], len(piece.samples)
                while count < self._most and not self._waiting.empty():
                    more = self._next(block=False)
                    if more is None:
                        yield _join(joined)
                        return
                    joined.append(more)
                    count += len(more.samples)
                yield _join(joined)
        finally:
            self._closed.set()

    def _next(self, *, block: bool) -> Piece | None:
        item = self._waiting.get(block)
        if isinstance(item, BaseException):
            raise item
        return item


def _join(pieces: list[Piece]) -> Piece:
    return pieces[0] if len(pieces) == 1 else Piece(np.concatenate([p.samples for p in pieces]), pieces[-1].arrived)
