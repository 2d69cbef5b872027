"""Which hypotheses of a beam are the same, and what they count together."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

NOTHING: Final = -math.inf
"""The score of a place in the beam that no hypothesis has."""

_FACTORS: Final = (-7046029254386353131, -4417276706812531889)  # odd, and without pattern: those of splitmix64 and xxhash


def extended(keys: Tensor, values: Tensor) -> Tensor:
    """Keys of what keys stand for, followed by values; int64, of one shape.

    64 bits of a mixing function: that two texts of a beam get the same key does not happen.
    """
    mixed = (keys ^ (values + 1) * _FACTORS[0]) * _FACTORS[1]
    return mixed ^ (mixed >> 29)


def merged(scores: Tensor, same: Tensor, how: str) -> Tensor:
    """Scores `(B, K)` where the best of those that are the `same` `(B, K, K)` stays, with what they count together.

    `how` is `max` or `sum`. The others get `NOTHING`. Of equals the first stays.
    """
    table = torch.where(same, scores[:, None, :], NOTHING)
    together = table.amax(-1) if how == "max" else table.logsumexp(-1)
    stays = table.argmax(-1) == torch.arange(scores.shape[1], device=scores.device)
    return torch.where(stays & (scores > NOTHING), together, NOTHING)
