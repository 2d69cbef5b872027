"""How the words of a stream are shown: on a terminal, in a pipe, as rows for programs."""

from __future__ import annotations

import shutil
from typing import Protocol, TextIO

from sonant.cli.printing import shown
from sonant.results import dumps
from sonant_asr.streaming.events import Event

_CLEAR = "\r\x1b[K"
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


class Display(Protocol):
    """Shows events as they come."""

    def show(self, event: Event, latency: float) -> None:
        """`latency`: seconds between the last sample that the event comes from, and now."""
        ...


class Terminal:
    """Lines of text; the last one is written anew until it is full or the speaker pauses, what may change being dim."""

    def __init__(self, out: TextIO, width: int | None = None) -> None:
        self._out, self._width, self._line = out, width, ""

    def show(self, event: Event, latency: float) -> None:
        """See `Display`."""
        width = (self._width or shutil.get_terminal_size().columns) - 1
        self._line = (self._line + shown(event.text)).lstrip()
        while len(self._line) > width:
            cut = self._line.rfind(" ", 1, width + 1)
            cut = cut if cut > 0 else width
            self._out.write(f"{_CLEAR}{self._line[:cut].rstrip()}\n")
            self._line = self._line[cut:].lstrip()
        partial = shown(event.partial)[: width - len(self._line)]
        self._out.write(f"{_CLEAR}{self._line}{_DIM}{partial}{_PLAIN}" if partial else f"{_CLEAR}{self._line}")
        if (event.pause or event.ended) and self._line:
            self._out.write("\n")
            self._line = ""
        self._out.flush()


class Text:
    """Final text as it comes, a line for what is said between two pauses."""

    def __init__(self, out: TextIO) -> None:
        self._out, self._begun = out, False

    def show(self, event: Event, latency: float) -> None:
        """See `Display`."""
        text = event.text if self._begun else event.text.lstrip()
        self._begun = self._begun or bool(text)
        self._out.write(text)
        if (event.pause or event.ended) and self._begun:
            self._out.write("\n")
            self._begun = False
        self._out.flush()


class Rows:
    """A JSON object for each event: `text`, `words`, `partial`, `seconds`, `pause`, `ended`, `latency`."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def show(self, event: Event, latency: float) -> None:
        """See `Display`."""
        row = {
            "text": event.text,
            "words": [word.to_dict() for word in event.words],
            "partial": event.partial,
            "seconds": round(event.seconds, 3),
            "pause": event.pause,
            "ended": event.ended,
            "latency": round(latency, 3),
        }
        self._out.write(dumps(row) + "\n")
        self._out.flush()
