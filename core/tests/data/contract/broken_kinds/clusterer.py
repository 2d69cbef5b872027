"""Clusterers that each break one promise."""

from __future__ import annotations

import torch
from good_kinds.clusterer import Nearest


class FromOne(Nearest):
    def __call__(self, embeddings, *, n_speakers=None):
        found = super().__call__(embeddings, n_speakers=n_speakers)
        return found + 1 if len(found) > 1 else found


class Int32(Nearest):
    def number(self, groups):
        return super().number(groups).int()


class IgnoresTheNumber(Nearest):
    def __call__(self, embeddings, *, n_speakers=None):
        return super().__call__(embeddings)


class NeedsTwo(Nearest):
    def __call__(self, embeddings, *, n_speakers=None):
        if len(embeddings) < 2:
            raise ValueError("nothing to compare")
        return super().__call__(embeddings, n_speakers=n_speakers)


class OrderMatters(Nearest):
    """As many groups as there are, one after another in time."""

    def __call__(self, embeddings, *, n_speakers=None):
        found = super().__call__(embeddings, n_speakers=n_speakers)
        return torch.arange(len(found)) * (int(found.max()) + 1) // len(found)


class ByRank(Nearest):
    """Groups of equal size by one of the numbers, whatever the others say."""

    def __call__(self, embeddings, *, n_speakers=None):
        count = n_speakers or 1
        return embeddings[:, -1].argsort().argsort() * count // len(embeddings)


class WritesEmbeddings(Nearest):
    def __call__(self, embeddings, *, n_speakers=None):
        return super().__call__(embeddings.clamp_(-1, 1), n_speakers=n_speakers)
