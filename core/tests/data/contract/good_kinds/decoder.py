"""Heads whose outputs losses can tell apart."""

from __future__ import annotations

from good_parts.decoder import Frames
from torch import nn


class Cube(Frames):
    """A score for every label at every frame after every label."""

    def __init__(self, config, *, d_in, vocab_size):
        super().__init__(config, d_in=d_in, vocab_size=vocab_size)
        self.embed = nn.Embedding(vocab_size + 1, vocab_size + 1)

    def forward(self, enc, labels):
        before = nn.functional.pad(labels, (1, 0), value=self.vocab_size)
        return self.score(enc)[:, :, None] + self.embed(before)[:, None]  # (B, T, U + 1, V + 1)


class Pairs(Frames):
    """Scores, and how much of a label each frame is."""

    def __init__(self, config, *, d_in, vocab_size):
        super().__init__(config, d_in=d_in, vocab_size=vocab_size)
        self.weigh = nn.Linear(d_in, 1)

    def forward(self, enc):
        return {"scores": self.score(enc), "weights": self.weigh(enc).squeeze(-1).sigmoid()}
