"""Tokenizers that each break one promise."""

from __future__ import annotations

from good_parts.tokenizer import Letters


class NoFiles(Letters):
    pass


class CountsWrong(Letters):
    def __init__(self, config):
        super().__init__(config)
        self.vocab_size = float(self.vocab_size)


class NumberedPieces(Letters):
    def pieces(self, ids):
        return list(ids)


class IdsFromOne(Letters):
    def encode(self, text):
        return [i + 1 for i in super().encode(text)]

    def decode(self, ids):
        return super().decode([i - 1 for i in ids])


class WritesBackwards(Letters):
    def decode(self, ids):
        return super().decode(ids)[::-1]


class OnlyReads(Letters):
    def encode(self, text):
        raise ValueError("cannot")


class OneId(Letters):
    def encode(self, text):
        return [0 for _ in text]


class TakesIdsAway(Letters):
    def decode(self, ids):
        text = super().decode(ids)
        ids.clear()
        return text
