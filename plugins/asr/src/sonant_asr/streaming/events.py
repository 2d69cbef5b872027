"""What is known of a stream after a step."""

from __future__ import annotations

from attrs import frozen

from sonant.results import Span


@frozen(kw_only=True)
class Event:
    """What a step made of a stream.

    Attributes:
        text: what is final since the event before, with the space that parts them. All texts of a stream in a row are the text
            of the recording.
        words: the words in it, with their times in seconds from the beginning of the stream.
        partial: what follows so far, and may still change: the word that is being said. Each event replaces the one before.
        seconds: how much of the stream this event comes from, in seconds from its beginning.
        marks: tokens that are no words, where a model writes some: the end of an utterance, as `<EOU>`, with its times.
        pause: whether what came before is final because nothing was said for a while, or an utterance ended.
        ended: whether the stream is over; then all is final.
    """

    text: str = ""
    words: tuple[Span, ...] = ()
    partial: str = ""
    seconds: float = 0.0
    marks: tuple[Span, ...] = ()
    pause: bool = False
    ended: bool = False
