"""How fast a run goes, and how long it will take."""

from __future__ import annotations

import time
from collections import deque

_WINDOW = 50


class Pace:
    """Audio seconds per second over the last steps, pauses left out, and the time left, pauses included."""

    def __init__(self, *, step: int, last: int) -> None:
        self._first, self._step, self._last = step, step, last
        self._began = self._before = time.monotonic()
        self._steps: deque[tuple[float, float]] = deque(maxlen=_WINDOW)

    def add(self, audio: float, step: int) -> None:
        """A batch with so many seconds of audio was trained on; `step` optimizer steps are done."""
        now = time.monotonic()
        self._steps.append((audio, now - self._before))
        self._before, self._step = now, step

    def resume(self) -> None:
        """What went on since the last batch was no training."""
        self._before = time.monotonic()

    @property
    def speed(self) -> float:
        """Seconds of audio a second."""
        taken = sum(took for _, took in self._steps)
        return sum(audio for audio, _ in self._steps) / taken if taken else 0.0

    @property
    def left(self) -> float | None:
        """Seconds until the last step; None before the first."""
        done = self._step - self._first
        return (time.monotonic() - self._began) / done * (self._last - self._step) if done else None


def clock(seconds: float | None) -> str:
    """`1:02:03`, `02:03`."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"
