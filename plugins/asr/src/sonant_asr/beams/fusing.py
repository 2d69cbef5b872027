"""Several token scorers as one. Their states stand side by side: `(R, S)`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sonant_asr.fusion.boosting import PhraseBoosting
from sonant_asr.fusion.config import FusionConfig
from sonant_asr.fusion.scorer import TokenScorer


def start(scorers: Sequence[TokenScorer], rows: int, device: torch.device) -> Tensor:
    """The states before the first label, `(R, S)`."""
    states = [scorer.start(rows, device) for scorer in scorers]
    return torch.stack(states, dim=-1) if states else torch.zeros(rows, 0, dtype=torch.long, device=device)


def advance(scorers: Sequence[TokenScorer], states: Tensor) -> tuple[Tensor, Tensor]:
    """States `(R, S)` to the sum of the scores `(R, V)`, and the states behind every label `(R, V, S)`. There is a scorer."""
    found = [scorer.advance(states[:, n]) for n, scorer in enumerate(scorers)]
    total = found[0][0]
    for scores, _ in found[1:]:
        total = total + scores
    return total, torch.stack([behind for _, behind in found], dim=-1)


def final(scorers: Sequence[TokenScorer], states: Tensor) -> Tensor:
    """States `(R, S)` to what language models give to texts that end there, `(R,)`. A phrase at the end earns nothing more."""
    total = torch.zeros(len(states), device=states.device)
    for n, scorer in enumerate(scorers):
        if not isinstance(scorer, PhraseBoosting):
            total = total + scorer.final(states[:, n])
    return total


def weight(config: FusionConfig) -> float:
    """What the scorers weigh together."""
    return (config.lm_weight if config.lm is not None else 0.0) + (config.boost_weight if config.boost else 0.0)
