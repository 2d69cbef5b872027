"""Searches that each break one promise."""

from __future__ import annotations

import sys

import attrs
import torch
from good_parts.search import Best, Piecewise

from sonant.protocols import Hypothesis


class OneForAll(Best):
    def __call__(self, decoder, enc, lens):
        return super().__call__(decoder, enc, lens)[-1:]


class LacksEnds(Best):
    def read(self, labels, blank):
        return attrs.evolve(super().read(labels, blank), ends=())


class GoesBack(Best):
    def read(self, labels, blank):
        found = super().read(labels, blank)
        return attrs.evolve(found, starts=found.starts[::-1])


class EndsEarly(Best):
    def read(self, labels, blank):
        found = super().read(labels, blank)
        return attrs.evolve(found, ends=tuple(start - 1 for start in found.starts))


class FindsBlanks(Best):
    def read(self, labels, blank):
        times = tuple(range(len(labels)))
        return Hypothesis(tokens=tuple(labels), starts=times, ends=times)


class PlainTuples(Best):
    def read(self, labels, blank):
        return Plain(*attrs.astuple(super().read(labels, blank))[:4])


@attrs.frozen
class Plain:
    tokens: tuple
    starts: tuple
    ends: tuple
    score: float


class SearchesPadding(Best):
    def __call__(self, decoder, enc, lens):
        scores = decoder.score(enc)
        best = (scores - scores.mean(1, keepdim=True)).argmax(-1).tolist()
        return [self.read(row[:n], decoder.vocab_size) for row, n in zip(best, lens.tolist(), strict=True)]


class AlwaysOne(Best):
    def read(self, labels, blank):
        return super().read(labels or [0], blank)


class FindsNothing(Best):
    def read(self, labels, blank):
        return super().read([], blank)


class Deaf(Best):
    def __call__(self, decoder, enc, lens):
        return super().__call__(decoder, torch.ones_like(enc), lens)

    def read(self, labels, blank):
        return super().read([0] * len(labels), blank)


class EndsInSamples(Best):
    def read(self, labels, blank):
        found = super().read(labels, blank)
        return attrs.evolve(found, ends=tuple(640 * end for end in found.ends))


class InfiniteScore(Best):
    def read(self, labels, blank):
        return attrs.evolve(super().read(labels, blank), score=float("-inf"))


class WritesVectors(Best):
    def __call__(self, decoder, enc, lens):
        return super().__call__(decoder, enc.clamp_(-2, 2), lens)


class ForgetsThePosition(Piecewise):
    def step(self, decoder, enc, lens, states):
        return super().step(decoder, enc, lens, [0] * len(states))


class OnePosition(Piecewise):
    def step(self, decoder, enc, lens, states):
        found, after = super().step(decoder, enc, lens, [max(states)] * len(states))
        return found, after


class WritesItsState(Piecewise):
    def init_state(self, decoder):
        return [0]

    def step(self, decoder, enc, lens, states):
        found, after = super().step(decoder, enc, lens, [state[0] for state in states])
        for state, n in zip(states, after, strict=True):
            state[0] = n
        return found, list(states)


class ScoresTwice(Piecewise):
    def read(self, labels, blank):
        found = super().read(labels, blank)
        return attrs.evolve(found, score=float(len(found.tokens)))

    def later(self, found, frames):
        return attrs.evolve(super().later(found, frames), score=2 * found.score)


class Exits(Best):
    def __init__(self, config):
        sys.exit("not today")


class ReadsWords(Best):
    """No decoder is of its family, and none names it."""

    families = ("words",)


class GivesNone(Best):
    """No decoder names it."""

    def __call__(self, decoder, enc, lens):
        return []
