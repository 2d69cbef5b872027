"""When each character or token, word and segment of a transcript was said.

The numbers are those of NeMo 3.0's `transcribe(timestamps=True)`, its oddities included, so that a checkpoint
gives the same times here as there. A search has to emit the spans of its tokens, in encoder frames, like this:

- CTC: what `ctc_spans` makes of the best id of every frame. A token ends at the frame where it is first seen and
  starts where the token before it ended; the first one starts one frame before it is first seen (at 0 at the earliest).
- RNN-T: a token starts at the frame at which it was emitted and ends one frame later.
- TDT: a token starts at the frame at which it was emitted and ends as many frames later as the duration predicted
  with it. A duration of 0 gives an empty span, and the end may lie beyond the last frame: neither is corrected.

What is left for here depends on the family too: where punctuation marks go. CTC holds them for many frames: they become empty, at
their start. TDT emits them late, after a silence: they become empty, at the end of the token before. RNN-T's stay as the search
found them, and so do those of every family that is not known here.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from typing import Protocol

from attrs import evolve, frozen

from sonant.protocols import Hypothesis
from sonant.results import Span
from sonant_asr.confidence.measures import aggregate

_SPACES = (" ", "_", "▁")


class Spelled(Protocol):
    """What it takes of a tokenizer to read what a search found."""

    vocab_size: int

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        ...

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The token of each id as it is written."""
        ...


@frozen
class Timestamps:
    """The spans of one utterance, in seconds. `chars` has one span a token, also for tokens without text.

    `token_confidence` is that of the tokens that make the words, without separators.
    """

    chars: tuple[Span, ...] = ()
    words: tuple[Span, ...] = ()
    segments: tuple[Span, ...] = ()
    token_confidence: tuple[float, ...] = ()


@frozen
class _Piece:
    """Some text and the encoder frames it spans. `token` is the token as it is written, where the text is one token; `sure` is
    how sure the search was of its tokens, if it says so."""

    text: str
    start: int
    end: int
    id: int = -1
    token: str = ""
    sure: tuple[float, ...] = ()


@frozen
class _Vocabulary:
    """What has to be known of a tokenizer's tokens: its punctuation marks, and whether `##` continues a word."""

    marks: frozenset[str]
    hashes: bool


def timestamps(
    hypothesis: Hypothesis,
    tokenizer: Spelled,
    frame_seconds: float,
    *,
    family: str,
    word_separator: str = " ",
    segment_separators: Sequence[str] = (".", "!", "?"),
    segment_gap: int | None = None,
    aggregation: str = "min",
) -> Timestamps:
    """The characters or tokens, words and segments of `hypothesis`, which was found with a head of `family`.

    `frame_seconds` is how long an encoder frame lasts. A word that is or ends with one of `segment_separators` ends
    a segment; with `segment_gap`, so do that many silent frames, and then a separator counts only at a segment's
    first word, as in NeMo. `tokenizer.decode` must not strip spaces where a token is a character. `aggregation` makes one of the
    confidences of a span's tokens, where the hypothesis has any.
    """
    vocabulary = _vocabulary(tuple(tokenizer.pieces(range(tokenizer.vocab_size))))
    pieces = _pieces(hypothesis, tokenizer)
    if family in _REFINE:
        pieces = _REFINE[family](pieces, vocabulary.marks)
    words = _words(pieces, vocabulary, word_separator, tokenizer.decode)
    segments = _segments(words, tuple(segment_separators), segment_gap)

    def spans(found: Sequence[_Piece]) -> tuple[Span, ...]:
        return tuple(
            Span(p.text, p.start * frame_seconds, p.end * frame_seconds, aggregate(p.sure, aggregation) if p.sure else None)
            for p in found
        )

    sure = tuple(number for word in words for number in word.sure)
    return Timestamps(spans(pieces), spans(words), spans(segments), sure)


def ctc_spans(
    frame_ids: Sequence[int], blank: int, *, first: int = 0, last: int | None = None, end: int | None = None
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Tokens, starts and ends from the best id of every frame: repeats merged, blanks dropped.

    A span runs from where the token before was first seen to where this one is first seen, so that a token's own
    repeats, and the blanks behind it, count for the token after it.

    In the middle of a recording, `first` is the number of the first frame, `last` the id of the frame before it, and `end` where
    the token before was first seen, if there was one.
    """
    before = [blank if last is None else last, *frame_ids[:-1]]
    seen = [t for t, (token, last) in enumerate(zip(frame_ids, before, strict=False)) if token not in (blank, last)]
    ends = tuple(first + t for t in seen)
    starts = (max(0, ends[0] - 1) if end is None else end, *ends[:-1]) if ends else ()
    return tuple(frame_ids[t] for t in seen), starts, ends


def settled(hypothesis: Hypothesis, tokenizer: Spelled, word_separator: str = " ") -> int:
    """How many tokens, from the first on, make words that no token to come can change: those before the last word."""
    vocabulary = _vocabulary(tuple(tokenizer.pieces(range(tokenizer.vocab_size))))
    pieces = _pieces(hypothesis, tokenizer)
    for i in reversed(range(len(pieces))):
        is_mark = pieces[i].text in vocabulary.marks and pieces[i].text != word_separator
        if not is_mark and _begins_word(pieces, i, vocabulary, word_separator):
            # Behind a separator there may be a mark yet, which joins the word before it.
            first = next((p.text for p in pieces[i:] if p.text not in ("", word_separator)), None)
            if first is not None and first not in vocabulary.marks:
                return i
    return 0


def punctuation(tokenizer: Spelled) -> frozenset[str]:
    """The punctuation marks that occur in tokens other than special ones and those that begin a word."""
    return _vocabulary(tuple(tokenizer.pieces(range(tokenizer.vocab_size)))).marks


@lru_cache(maxsize=8)
def _vocabulary(tokens: tuple[str, ...]) -> _Vocabulary:
    marks = {c for token in tokens if not _is_special(token) for c in token if unicodedata.category(c)[0] == "P"}
    return _Vocabulary(frozenset(marks), any(token.startswith("##") for token in tokens))


def _is_special(token: str) -> bool:
    if not token.strip() or token.startswith(("##", "▁")):
        return True
    return (token[0], token[-1]) in {("[", "]"), ("<", ">")}


def _pieces(hypothesis: Hypothesis, tokenizer: Spelled) -> list[_Piece]:
    written = tokenizer.pieces(hypothesis.tokens)
    known = hypothesis.token_confidence
    sure = [(number,) for number in known] if known else [()] * len(written)
    rows = zip(hypothesis.tokens, written, hypothesis.starts, hypothesis.ends, sure, strict=True)
    return [_Piece(tokenizer.decode([id]), start, end, id, token, numbers) for id, token, start, end, numbers in rows]


def _refine_ctc(pieces: list[_Piece], marks: Collection[str]) -> list[_Piece]:
    """Anything that begins with a mark, `'s` too, becomes empty; what follows does not move up to it."""
    rest = [evolve(p, end=p.start) if p.text[:1] in marks else p for p in pieces[1:]]
    return pieces[:1] + rest


def _refine_tdt(pieces: list[_Piece], marks: Collection[str]) -> list[_Piece]:
    refined = pieces[:1]
    for piece in pieces[1:]:
        end = refined[-1].end
        refined.append(evolve(piece, start=end, end=end) if piece.text in marks else piece)
    return refined


_REFINE: dict[str, Callable[[list[_Piece], Collection[str]], list[_Piece]]] = {
    "ctc": _refine_ctc,
    "tdt": _refine_tdt,
}


def _words(
    pieces: Sequence[_Piece], vocabulary: _Vocabulary, separator: str, decode: Callable[[Sequence[int]], str]
) -> list[_Piece]:
    """Pieces put together to words; punctuation marks join the word before them."""
    words: list[_Piece] = []
    word: list[_Piece] = []
    start = 0

    def close(end: int) -> None:
        if word:
            words.append(_Piece(decode([p.id for p in word]), start, end, sure=_sure(word)))
            word.clear()

    for i, piece in enumerate(pieces):
        is_mark = piece.text in vocabulary.marks and piece.text != separator
        if not is_mark and _begins_word(pieces, i, vocabulary, separator):
            close(pieces[i - 1].end)
            if piece.text != separator:
                word.append(piece)
                start = piece.start
        elif is_mark and words and not word:
            # Behind a separator: the word that it follows is closed already.
            last = words[-1]
            text = last.text.removesuffix(" ") + piece.text
            words[-1] = evolve(last, text=text, end=piece.end, sure=last.sure + piece.sure)
        else:
            if not word:
                start = piece.start
            elif is_mark and word[-1].token in _SPACES:
                word.pop()
            word.append(piece)
    if pieces:
        close(pieces[-1].end)
    if words:
        # Separators before the first word count for it.
        words[0] = evolve(words[0], start=pieces[0].start)
    return words


def _sure(pieces: Sequence[_Piece]) -> tuple[float, ...]:
    return tuple(number for piece in pieces for number in piece.sure)


def _begins_word(pieces: Sequence[_Piece], i: int, vocabulary: _Vocabulary, separator: str) -> bool:
    piece = pieces[i]
    if separator != " ":
        return piece.text == separator
    if piece.text == separator:
        # A space before a punctuation mark separates nothing.
        following = next((p.text for p in pieces[i + 1 :] if p.text not in ("", separator)), None)
        if following not in vocabulary.marks:
            return True
    if vocabulary.hashes:
        return bool(piece.text) and not piece.text.startswith("##")
    # Decoding takes the mark of a word's beginning off a SentencePiece token, and leaves a character as it is.
    return piece.token != piece.text


def _segments(words: Sequence[_Piece], separators: tuple[str, ...], gap: int | None) -> list[_Piece]:
    segments: list[_Piece] = []
    segment: list[_Piece] = []

    def close() -> None:
        if segment:
            text = " ".join(word.text for word in segment)
            segments.append(_Piece(text, segment[0].start, segment[-1].end, sure=_sure(segment)))
            segment.clear()

    for word in words:
        if gap and segment:
            if word.start - segment[-1].end >= gap:
                close()
            segment.append(word)
            continue  # NeMo looks at separators only where there is no word whose distance it could measure.
        segment.append(word)
        if word.text in separators or word.text[-1:] in separators:
            close()
    close()
    return segments
