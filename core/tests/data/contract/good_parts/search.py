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


class Piecewise(Best):
    """The same, fed piece by piece: the state is the number of frames before."""

    def init_state(self, decoder):
        return 0

    def step(self, decoder, enc, lens, states):
        found = [self.later(new, state) for new, state in zip(self(decoder, enc, lens), states, strict=True)]
        return found, [state + n for state, n in zip(states, lens.tolist(), strict=True)]

    def later(self, found, frames):
        starts = tuple(frames + start for start in found.starts)
        return Hypothesis(tokens=found.tokens, starts=starts, ends=tuple(start + 1 for start in starts))


class Versioned(Best):
    """It does not say what it reads."""

    families = property()
