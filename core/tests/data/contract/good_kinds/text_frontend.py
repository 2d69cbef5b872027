"""A text frontend: the letters of a text."""

from __future__ import annotations


class Letters:
    """An id for each letter; what is none is not spoken."""

    def __init__(self, config):
        self.config = config
        self.symbols = list("abcdefghijklmnopqrstuvwxyz ")
        self.vocab_size = len(self.symbols)

    def encode(self, text):
        return [self.symbols.index(c) for c in text.lower() if c in self.symbols]

    def decode(self, ids):
        return "".join(self.symbols[i] for i in ids)
