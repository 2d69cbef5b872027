"""How a tokenizer writes the texts it was made of, and whether CTC can align them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

from attrs import frozen

from sonant_training.tokenizing.texts import Text
from sonant_training.tokenizing.training import Trained

FRAMES: Final = (0.04, 0.08)
"""Seconds from one frame of an encoder to the next: subsampling by 4 and by 8."""


@frozen(kw_only=True)
class Use:
    """Counts over texts. `too_long` has, for each of `FRAMES`, how many of the `timed` texts CTC could not align."""

    vocabulary: int
    texts: int
    words: int
    characters: int
    tokens: int
    longest: int
    unknown_texts: int
    unknown: int
    timed: int
    too_long: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "vocabulary": self.vocabulary,
            "texts": self.texts,
            "tokens": self.tokens,
            "tokens_a_word": round(self.tokens / max(1, self.words), 4),
            "characters_a_token": round(self.characters / max(1, self.tokens), 4),
            "longest": self.longest,
            "unknown": self.unknown,
            "unknown_texts": self.unknown_texts,
            "timed": self.timed,
            "too_long_for_ctc": {f"{1000 * frame:.0f} ms": n for frame, n in zip(FRAMES, self.too_long, strict=True)},
        }


def use(trained: Trained, texts: Sequence[Text]) -> Use:
    """Write every text and count."""
    written = [(text, *trained.encode(text.text)) for text in texts]
    timed = [(text.seconds, frames_for_ctc(ids)) for text, ids, _ in written if text.seconds is not None]
    return Use(
        vocabulary=len(trained.pieces),
        texts=len(texts),
        words=sum(len(text.text.split()) for text in texts),
        characters=sum(len(text.text) for text in texts),
        tokens=sum(len(ids) for _, ids, _ in written),
        longest=max(len(ids) for _, ids, _ in written),
        unknown_texts=sum(unknown > 0 for *_, unknown in written),
        unknown=sum(unknown for *_, unknown in written),
        timed=len(timed),
        too_long=tuple(sum(needed > seconds / frame for seconds, needed in timed) for frame in FRAMES),
    )


def frames_for_ctc(ids: Sequence[int]) -> int:
    """How many frames CTC needs: one for each token, and a blank between two that are equal (Graves et al., 2006)."""
    return len(ids) + sum(a == b for a, b in pairwise(ids))


def lines(found: Use) -> Iterator[tuple[str, str]]:
    """What to print."""
    yield "vocabulary", f"{found.vocabulary:,}"
    yield "texts", f"{found.texts:,}"
    yield (
        "tokens",
        (
            f"{found.tokens:,}: {found.tokens / max(1, found.words):.2f} a word, "
            f"{found.characters / max(1, found.tokens):.2f} characters each, at most {found.longest:,} in a text"
        ),
    )
    if found.unknown:
        yield "unknown", f"{found.unknown:,} characters in {found.unknown_texts:,} texts"
    for frame, count in zip(FRAMES, found.too_long, strict=True):
        if found.timed:
            yield "too long for CTC", f"{count:,} of {found.timed:,} texts, with a frame every {1000 * frame:.0f} ms"
