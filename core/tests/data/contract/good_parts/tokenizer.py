"""Tokenizers: letters of the config, and words of a file."""

from __future__ import annotations


class Letters:
    """An id for each letter."""

    def __init__(self, config):
        self.config = config
        self.symbols = list(config.alphabet)
        self.vocab_size = len(self.symbols)

    def encode(self, text):
        return [self.symbols.index(c) for c in text]

    def decode(self, ids):
        return "".join(self.symbols[i] for i in ids)

    def pieces(self, ids):
        return [self.symbols[i] for i in ids]


class Listed(Letters):
    """Its first piece stands for unknown words and no text has it."""

    def __init__(self, config, *, files):
        self.config = config
        self.symbols = ["<unk>", *files.read(config.file).decode().splitlines()]
        self.vocab_size = len(self.symbols)

    def encode(self, text):
        return [self.symbols.index(word) for word in text.split()]

    def decode(self, ids):
        return " ".join(self.symbols[i] if i else "unknown words" for i in ids)


def files():
    return {"words.txt": b"one\ntwo\nthree\n"}
