"""A SentencePiece model small enough for tests, trained on the spot."""

from __future__ import annotations

import io
from functools import cache

import sentencepiece

_TEXT = (
    "the quick brown fox jumps over the lazy dog",
    "pack my box with five dozen liquor jugs",
    "how vexingly quick daft zebras jump",
)


@cache
def model() -> bytes:
    """The model's bytes: a few dozen pieces over English letters."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_TEXT), model_writer=written, vocab_size=40, model_type="bpe", num_threads=1, minloglevel=2
    )
    return written.getvalue()


def files() -> dict[str, bytes]:
    """What the tiny config of `sentencepiece` names."""
    return {"tiny.model": model()}
