"""All that a stream said, as a transcript."""

from __future__ import annotations

from collections.abc import Sequence

from sonant.results import Span, Transcript
from sonant_asr.streaming.events import Event


class Heard:
    """Collects the events of a stream. A segment ends at a pause, or behind a word that ends with one of `separators`."""

    def __init__(self, source: str, separators: Sequence[str]) -> None:
        self._source, self._separators = source, tuple(separators)
        self._text = ""
        self._words: list[Span] = []
        self._segments: list[Span] = []
        self._open: list[Span] = []

    def add(self, event: Event) -> None:
        """What came after those before."""
        self._text += event.text
        for word in event.words:
            self._words.append(word)
            self._open.append(word)
            if word.text.endswith(self._separators):
                self._close()
        if event.pause or event.ended:
            self._close()

    def transcript(self, duration: float) -> Transcript:
        """What was said until now, in a recording of so many seconds."""
        return Transcript(
            text=self._text.strip(),
            source=self._source,
            duration=duration,
            words=tuple(self._words),
            segments=tuple(self._segments),
        )

    def _close(self) -> None:
        if self._open:
            text = " ".join(word.text for word in self._open)
            self._segments.append(Span(text, self._open[0].start, self._open[-1].end))
            self._open = []
