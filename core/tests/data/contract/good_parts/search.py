"""A search: the best label of every frame, the last one being none."""

from __future__ import annotations

from sonant.protocols import Hypothesis


class Best:
    """The best label of every frame."""

    families = ("frames",)

    def __init__(self, config):
        self.config = config

    def __call__(self, decoder, enc, lens):
        best = decoder.score(enc).argmax(-1).tolist()
        return [self.read(row[:n], decoder.vocab_size) for row, n in zip(best, lens.tolist(), strict=True)]

    def read(self, labels, blank):
        found = [(label, t) for t, label in enumerate(labels) if label != blank]
        return Hypothesis(
            tokens=tuple(label for label, _ in found), starts=tuple(t for _, t in found), ends=tuple(t + 1 for _, t in found)
        )


class Versioned(Best):
    """It does not say what it reads."""

    families = property()
