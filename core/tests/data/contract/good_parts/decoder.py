"""Heads that score every frame; in training they ask for different things."""

from __future__ import annotations

from torch import nn


class Frames(nn.Module):
    """A score for every label at every frame."""

    search, family = "best", "frames"

    def __init__(self, config, *, d_in, vocab_size):
        super().__init__()
        self.config = config
        self.d_in, self.vocab_size = d_in, vocab_size
        self.out = nn.Linear(d_in, vocab_size + 1)

    def score(self, enc):
        return self.out(enc)

    def forward(self, enc):
        return self.score(enc)


class Table(Frames):
    def __init__(self, config, *, d_in, vocab_size):
        super().__init__(config, d_in=d_in, vocab_size=vocab_size)
        self.embed = nn.Embedding(vocab_size, vocab_size + 1)

    def forward(self, enc, labels):
        return {"scores": self.score(enc), "labels": [self.embed(labels)]}


class Versioned(Frames):
    search = "versioned.v1"
