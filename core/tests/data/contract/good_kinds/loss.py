"""Losses that each ask for other things."""

from __future__ import annotations

import torch
from torch import nn

from sonant.lengths import mask


class FirstLabel:
    """How unlikely an utterance's first label is, the mean over its frames and then over the batch."""

    def __init__(self, config):
        self.config = config

    def terms(self, logits, labels):
        first = labels[:, :1, None].expand(-1, logits.shape[1], -1)
        return -logits.log_softmax(-1).gather(2, first).squeeze(2)  # (B, T)

    def __call__(self, logits, lens, labels):
        terms = self.terms(logits, labels).masked_fill(~mask(lens, logits.shape[1]), 0.0)
        return (terms.sum(1) / lens).mean()


def lattice(config):
    """The sum over frames and labels of how unlikely each label is there."""

    def loss(logits, lens, labels, label_lens):
        terms = logits[:, :, :-1].log_softmax(-1).gather(3, labels[:, None, :, None].expand(-1, logits.shape[1], -1, -1))
        valid = mask(lens, logits.shape[1])[:, :, None] & mask(label_lens, labels.shape[1])[:, None]
        return -terms.squeeze(3).masked_fill(~valid, 0.0).sum() + 0.0 * logits[:, 0, 0].sum()

    return loss


class Weighted(nn.Module):
    """The total of the scores, weighed, with an importance of each label that is learnt."""

    def __init__(self, config, *, vocab_size):
        super().__init__()
        self.importance = nn.Parameter(torch.randn(vocab_size + 1))

    def forward(self, scores, weights, lens):
        terms = (scores.square() @ self.importance) * weights
        return terms.masked_fill(~mask(lens, terms.shape[1]), 0.0).sum()


class Distance(nn.Module):
    """The mean distance of valid frames to their targets."""

    def __init__(self, config):
        super().__init__()

    def forward(self, pred, target, lens):
        valid = mask(lens, pred.shape[1])
        return (pred - target).abs().mean(-1)[valid].mean()
