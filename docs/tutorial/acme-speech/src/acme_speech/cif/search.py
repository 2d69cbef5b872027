"""The search: tokens as they fire."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from acme_speech.cif.config import CifGreedyConfig
from acme_speech.cif.model import Cif
from sonant import lengths
from sonant.protocols import Hypothesis


class CifGreedy:
    """The best label of every token. A hypothesis' score is the sum of their log-probabilities."""

    families: ClassVar = ("cif",)

    def __init__(self, config: CifGreedyConfig) -> None:
        self.config = config

    def __call__(self, decoder: Cif, enc: Tensor, lens: Tensor) -> list[Hypothesis]:
        """`(B, T, D)`, `(B,)` to one hypothesis an utterance."""
        weights = decoder.weights(enc, lens)
        level = weights.cumsum(1)  # (B, T)
        counts = (level[:, -1] + 1 - self.config.tail).floor().long()  # sum() would round differently in a wider batch
        most = int(counts.max())
        scores, labels = decoder.spell(enc, weights, counts, most).float().log_softmax(-1).max(-1)  # (B, U)
        scores = scores.masked_fill(~lengths.mask(counts, most), 0.0).sum(1)
        starts, ends = spans(level, most)
        rows = zip(counts.tolist(), labels.tolist(), starts.tolist(), ends.tolist(), lens.tolist(), scores.tolist(), strict=True)
        return [
            Hypothesis(
                tokens=tuple(tokens[:count]),
                starts=tuple(first[:count]),
                ends=tuple(min(frame, length) for frame in last[:count]),
                score=score,
            )
            for count, tokens, first, last, length, score in rows
        ]


def spans(level: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """From the sum of the weights up to each frame, `(B, T)`, the frames `[start, end)` of `count` tokens, `(B, count)` each.

    A token starts in the frame that brings the sum above its number, and ends behind the one that makes it whole.
    """
    token = torch.arange(count, device=level.device, dtype=level.dtype).expand(level.shape[0], count).contiguous()
    return torch.searchsorted(level, token, right=True), torch.searchsorted(level, token + 1) + 1
