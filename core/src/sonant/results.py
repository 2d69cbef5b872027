"""What tasks return: frozen values that write themselves in the formats users need.

Times are seconds from the start of the recording.
"""

from __future__ import annotations

import html
import json
from typing import Any, Literal

import attrs
from attrs import frozen

TranscriptFormat = Literal["txt", "json", "jsonl", "srt", "vtt", "ctm"]


@frozen
class Span:
    """A piece of text and when it was said: a character or token, a word, a segment."""

    text: str
    start: float
    end: float
    confidence: float | None = None
    speaker: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Only what is known."""
        sure = {"confidence": None if self.confidence is None else round(self.confidence, 4)}
        return {k: v for k, v in (attrs.asdict(self) | sure).items() if v is not None}


Word = Span
Segment = Span


@frozen
class Alternative:
    """What else may have been said. Scores compare within a recording, higher being better."""

    text: str
    score: float


@frozen(kw_only=True)
class Transcript:
    """The words of one recording.

    `words`, `segments` and `chars` are empty unless timestamps were asked for, and `alternatives`, the next best texts, unless a
    search was asked for them. `marks` are tokens that are no words, where a model writes some: ends of utterances, as `<EOU>`.
    `confidence`, about from 0 to 1, is that of all words, where it was asked for.
    """

    text: str
    source: str = ""
    duration: float = 0.0
    words: tuple[Span, ...] = ()
    segments: tuple[Span, ...] = ()
    chars: tuple[Span, ...] = ()
    marks: tuple[Span, ...] = ()
    tokens: tuple[int, ...] = attrs.field(default=(), repr=False)
    score: float | None = None
    confidence: float | None = None
    alternatives: tuple[Alternative, ...] = ()
    language: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """A manifest row: `audio_filepath`, `text`, `duration`, and spans and alternatives where there are any."""
        row: dict[str, Any] = {"audio_filepath": self.source, "text": self.text, "duration": round(self.duration, 3)}
        if self.language is not None:
            row["lang"] = self.language
        if self.confidence is not None:
            row["confidence"] = round(self.confidence, 4)
        for key in ("words", "segments", "chars", "marks"):
            spans = getattr(self, key)
            if spans:
                row[key] = [s.to_dict() for s in spans]
        if self.alternatives:
            row["score"] = self.score
            row["alternatives"] = [attrs.asdict(other) for other in self.alternatives]
        return row

    def to_json(self, *, indent: int | None = None) -> str:
        """The row as JSON, on one line unless `indent` is given."""
        return dumps(self.to_dict(), indent=indent)

    def to_txt(self) -> str:
        """The text; with timestamps, a line `start end word` for every word, or segment where there are no words."""
        spans = self.words or self.segments
        return "\n".join(f"{s.start:.2f} {s.end:.2f} {s.text}" for s in spans) if spans else self.text

    def to_srt(self) -> str:
        """SubRip subtitles, one cue a segment."""
        cues = enumerate(self._cues(), start=1)
        return "\n".join(f"{n}\n{_times(s, ',')}\n{s.text}\n" for n, s in cues)

    def to_vtt(self) -> str:
        """WebVTT subtitles, one cue a segment."""
        cues = (f"{_times(s, '.')}\n{html.escape(s.text, quote=False)}\n" for s in self._cues())
        return "\n".join(["WEBVTT\n", *cues])

    def to_ctm(self) -> str:
        """NIST CTM: `recording channel start duration word`, and the confidence where it is known; one line a word."""
        name = _one_field(self.source) or "audio"
        return "\n".join(f"{name} 1 {w.start:.2f} {w.end - w.start:.2f} {_one_field(w.text)}{_sure(w)}" for w in self.words)

    def format(self, name: str) -> str:
        """This transcript as `name`, one of `TranscriptFormat`."""
        if name == "jsonl":
            return self.to_json()
        if name == "json":
            return self.to_json(indent=2)
        return str(getattr(self, f"to_{name}")())

    def _cues(self) -> tuple[Span, ...]:
        if self.segments:
            return self.segments
        return (Span(self.text, 0.0, self.duration),) if self.text else ()


@frozen
class Failure:
    """A recording that could not be processed, in place of its result."""

    source: str
    error: Exception

    def __str__(self) -> str:
        return f"{self.source}: {str(self.error) or type(self.error).__name__}"


def dumps(value: Any, *, indent: int | None = None) -> str:
    """JSON as people read it. A file name that is not Unicode is written in escapes, so that it comes back as it was."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text


def _sure(word: Span) -> str:
    return "" if word.confidence is None else f" {word.confidence:.4f}"


def _one_field(text: str) -> str:
    """Without white space, which separates fields, and writable in any case."""
    return "".join("_" if c.isspace() else c for c in text).encode("utf-8", "backslashreplace").decode("utf-8")


def _times(span: Span, point: str) -> str:
    """When a cue is shown; players want it to end after it begins."""
    return f"{_clock(span.start, point)} --> {_clock(max(span.end, span.start + 0.001), point)}"


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"
