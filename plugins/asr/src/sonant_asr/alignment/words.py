"""A text as labels of a CTC model, and their frames as times of its words and segments.

The conventions are NeMo's: a segment ends at a mark that a space follows, and marks, which CTC holds for many frames, are
empty, at the end of what stands before them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from attrs import frozen

from sonant.protocols import Tokenizer
from sonant.results import Span
from sonant_asr.alignment.viterbi import Spans

_MARKS: Final = (",", ".", "!", "?")


@frozen
class AlignedWord:
    """A word, its labels, and how each is written. `segment` is the number of the segment it belongs to."""

    text: str
    segment: int
    labels: tuple[int, ...]
    pieces: tuple[str, ...]


@frozen
class Times:
    """In seconds."""

    segments: tuple[Span, ...] = ()
    words: tuple[Span, ...] = ()
    chars: tuple[Span, ...] = ()


def split(text: str, tokenizer: Tokenizer, separators: Sequence[str]) -> list[AlignedWord]:
    """The words of a text. A word ends a segment if it ends with one of `separators`."""
    words: list[AlignedWord] = []
    segment = 0
    for word in text.split():
        words.append(_word(word, segment, tokenizer))
        segment += word[-1] in separators
    return words


def labels(words: Sequence[AlignedWord]) -> list[int]:
    """Of all words in turn."""
    return [label for word in words for label in word.labels]


def _word(word: str, segment: int, tokenizer: Tokenizer) -> AlignedWord:
    ids = _spell(word, tokenizer)
    spell = getattr(tokenizer, "spell", None)  # SentencePiece writes marks that it has no piece for as an unknown one
    return AlignedWord(word, segment, tuple(ids), tuple(tokenizer.pieces(ids) if spell is None else spell(word)))


def _spell(word: str, tokenizer: Tokenizer) -> list[int]:
    """Its labels. Of a tokenizer that refuses characters it does not know, those that it knows."""
    try:
        return tokenizer.encode(word)
    except ValueError:
        return [label for character in word for label in _known(character, tokenizer)]


def _known(character: str, tokenizer: Tokenizer) -> list[int]:
    try:
        return tokenizer.encode(character)
    except ValueError:
        return []


def times(words: Sequence[AlignedWord], spans: Spans, tokenizer: Tokenizer, frame_seconds: float) -> Times:
    """The times of words, of their segments, and of their labels, from the frames of all labels in turn."""
    found: list[tuple[AlignedWord, Span]] = []
    chars: list[Span] = []
    rest = iter(spans)
    for word in words:
        pieces = list(_pieces(word, rest, tokenizer, frame_seconds))
        if pieces:
            found.append((word, Span(word.text, pieces[0].start, pieces[-1].end)))
            chars += pieces
    return Times(tuple(_segments(found)), tuple(span for _, span in found), tuple(chars))


def _pieces(word: AlignedWord, rest: Iterator[tuple[int, int]], tokenizer: Tokenizer, frame_seconds: float) -> Iterator[Span]:
    """Each label."""
    before: int | None = None
    for label, piece in zip(word.labels, word.pieces, strict=True):
        start, end = next(rest)
        if piece in _MARKS:
            start = end = start if before is None else before
        before = end
        yield Span(tokenizer.decode([label]), start * frame_seconds, end * frame_seconds)


def _segments(words: Sequence[tuple[AlignedWord, Span]]) -> Iterator[Span]:
    for number in sorted({word.segment for word, _ in words}):
        spans = [span for word, span in words if word.segment == number]
        yield Span(" ".join(span.text for span in spans), spans[0].start, spans[-1].end)
