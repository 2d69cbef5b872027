"""Greedy CTC search."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from sonant import lengths
from sonant.protocols import Hypothesis
from sonant_asr.ctc.config import CtcGreedyConfig
from sonant_asr.ctc.model import CtcHead
from sonant_asr.timestamps import ctc_spans


class CtcGreedy:
    """The best label of every frame, with repeats and blanks removed.

    A hypothesis' score is the log-probability of the best path.
    """

    families: ClassVar = ("ctc",)

    def __init__(self, config: CtcGreedyConfig) -> None:
        self.config = config

    def __call__(self, decoder: CtcHead, enc: Tensor, lens: Tensor) -> list[Hypothesis]:
        """`(B, T, D)`, `(B,)` to one hypothesis an utterance."""
        logits = decoder(enc).float()
        best, ids = logits.max(-1)  # (B, T)
        scores = (best - logits.logsumexp(-1)).masked_fill(~lengths.mask(lens, enc.shape[1]), 0.0).sum(1)
        rows = torch.where(lengths.mask(lens, enc.shape[1]), ids, decoder.blank).tolist()
        return [
            _hypothesis(row[:length], decoder.blank, score)
            for row, length, score in zip(rows, lens.tolist(), scores.tolist(), strict=True)
        ]


def _hypothesis(frame_ids: list[int], blank: int, score: float) -> Hypothesis:
    tokens, starts, ends = ctc_spans(frame_ids, blank)
    return Hypothesis(tokens=tokens, starts=starts, ends=ends, score=score)
