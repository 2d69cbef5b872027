"""What keyword spotting returns."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from sonant.results import dumps


@frozen
class Keyword:
    """A keyword that was heard: from when to when, in seconds, and how sure the model is, from 0 to 1."""

    text: str
    start: float
    end: float
    score: float

    def to_dict(self) -> dict[str, Any]:
        """All fields, to the millisecond."""
        return {"text": self.text, "start": round(self.start, 3), "end": round(self.end, 3), "score": round(self.score, 3)}

    def __str__(self) -> str:
        return f"{self.start:.2f} {self.end:.2f} {self.text} {self.score:.2f}"


@frozen(kw_only=True)
class Spotting:
    """The keywords of one recording, in the order in which they begin."""

    keywords: tuple[Keyword, ...]
    source: str = ""
    duration: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """A manifest row."""
        keywords = [keyword.to_dict() for keyword in self.keywords]
        return {"audio_filepath": self.source, "duration": round(self.duration, 3), "keywords": keywords}

    def format(self, name: str) -> str:
        """As `txt` (a line `start end keyword score` each), `json` or `jsonl`."""
        if name == "txt":
            return "\n".join(str(keyword) for keyword in self.keywords)
        return dumps(self.to_dict(), indent=2 if name == "json" else None)
