"""How far behind the speaker the words are, measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from sonant_asr.streaming.events import Event

_SLOW = 3.0  # seconds behind, from which on it is worth a word
_AS_SPOKEN = 0.9  # of the audio's time, that a live source takes at least


class Latency:
    """Counts the steps of one stream, and when its words came.

    Args:
        started: when the first sample was heard, in seconds of `time.monotonic`.
        waits: seconds that the model has to hear before it can say anything of the first of them.
    """

    def __init__(self, started: float, waits: float) -> None:
        self._started, self._waits = started, waits
        self._arrived = started
        self.heard = 0.0  # seconds of audio
        self._busy = 0.0
        self._steps: list[float] = []
        self._words: list[float] = []

    def add(self, events: Sequence[Event], *, seconds: float, arrived: float, began: float, done: float) -> None:
        """A piece of so many `seconds`, whose last sample `arrived`, was worked on from `began` until `done`."""
        self.heard += seconds
        self._arrived = arrived
        self._busy += done - began
        if events:
            self._steps.append(done - arrived)
        for event in events:
            self._words += [done - self._started - word.end for word in event.words]

    @property
    def behind(self) -> float:
        """Seconds by which the last words came later than their audio."""
        return self._steps[-1] if self._steps else 0.0

    @property
    def is_slow(self) -> bool:
        """Whether the model does not keep up."""
        return self.behind > _SLOW

    @property
    def _is_as_spoken(self) -> bool:
        """Whether the audio came no faster than it was spoken; else only the speed means something."""
        return self._arrived - self._started >= _AS_SPOKEN * self.heard

    def summary(self) -> str:
        """A line for people."""
        if not self.heard:
            return "nothing was heard"
        said = [f"{self.heard:.1f} s heard, computed in {self._busy / self.heard:.2f} of that time"]
        if self._steps and self._is_as_spoken:
            late = sorted(self._steps)[min(len(self._steps) - 1, int(0.95 * len(self._steps)))]
            middle = statistics.median(self._steps)
            said.append(f"steps of {self._waits:.2f} s, done {middle:.2f} s behind their last sample (95 %: {late:.2f} s)")
        if self._words and self._is_as_spoken:
            said.append(f"words final {statistics.median(self._words):.2f} s behind their end")
        return "; ".join(said)
