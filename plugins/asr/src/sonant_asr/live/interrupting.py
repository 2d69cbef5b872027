"""Control-C as the end of a stream: what was heard is worked on and written before the program ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

from sonant.live import Piece


class ControlC:
    """Within it, Control-C ends the stream; a second one, while the rest is worked on, ends the program at once."""

    def __init__(self) -> None:
        self._waiting = self._pressed = False

    def __enter__(self) -> ControlC:
        self._before = signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def pieces(self, source: Iterator[Piece]) -> Iterator[Piece]:
        """Those of `source`, until it or the user ends."""
        while not self._pressed:
            self._waiting = True
            try:
                piece = next(source, None)
            except KeyboardInterrupt:
                self._pressed = True
                return
            finally:
                self._waiting = False
            if piece is None:
                return
            yield piece

    def _press(self, *_: Any) -> None:
        if self._waiting or self._pressed:
            raise KeyboardInterrupt
        self._pressed = True
