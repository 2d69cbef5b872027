"""Losses that each break one promise."""

from __future__ import annotations

import torch
from good_kinds.loss import FirstLabel, Weighted
from torch import nn

from sonant.lengths import mask


class Mute:
    """How unlikely an utterance's first label is."""

    def __init__(self, config):
        self.loss = FirstLabel(config)

    def __call__(self, logits, lens, labels):
        return self.loss(logits, lens, labels)


class OneForEach(FirstLabel):
    """The mean over frames."""

    def __call__(self, logits, lens, labels):
        terms = self.terms(logits, labels).masked_fill(~mask(lens, logits.shape[1]), 0.0)
        return terms.sum(1) / lens


class Infinite(FirstLabel):
    """The mean over frames."""

    def __call__(self, logits, lens, labels):
        return super().__call__(logits, lens, labels) + torch.inf


class MeanOverPadding(FirstLabel):
    """The mean over frames."""

    def __call__(self, logits, lens, labels):
        return self.terms(logits, labels).masked_fill(~mask(lens, logits.shape[1]), 0.0).mean()


class SumsPadding(FirstLabel):
    """The sum over frames."""

    def __call__(self, logits, lens, labels):
        return self.terms(logits, labels).sum()


class Detached(FirstLabel):
    """The mean over frames."""

    def __call__(self, logits, lens, labels):
        return super().__call__(logits.detach(), lens, labels)


class IgnoresWeights(Weighted):
    """The total of the scores."""

    def forward(self, scores, weights, lens):
        return super().forward(scores, torch.ones_like(weights), lens)


class DropsAtRandom(FirstLabel):
    """The mean over frames."""

    def __call__(self, logits, lens, labels):
        return super().__call__(nn.functional.dropout(logits, 0.5), lens, labels)


class ForgetsItsScale(Weighted):
    """The total of the scores."""

    def __init__(self, config, *, vocab_size):
        super().__init__(config, vocab_size=vocab_size)
        self.scale = float(1 + torch.rand((), device="cpu"))

    def forward(self, scores, weights, lens):
        return self.scale * super().forward(scores, weights, lens)


class SpareWeights(Weighted):
    """The total of the scores."""

    def __init__(self, config, *, vocab_size):
        super().__init__(config, vocab_size=vocab_size)
        self.spare = nn.Parameter(torch.zeros(3))


class Unheard:
    """The sum of something that no head returns."""

    def __init__(self, config):
        self.config = config

    def __call__(self, heat):
        return heat.sum()


class WritesLogits(FirstLabel):
    """The mean over frames."""

    def __call__(self, logits, lens, labels):
        with torch.no_grad():
            logits.masked_fill_(~mask(lens, logits.shape[1])[..., None], 0.0)
        return super().__call__(logits, lens, labels)


class AlwaysZero(FirstLabel):
    """The mean over frames."""

    def __call__(self, logits, lens, labels):
        value = super().__call__(logits, lens, labels)
        return value - value.detach()
