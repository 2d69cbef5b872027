"""Sinusoidal positions, absolute (Vaswani et al., 2017) and relative (Dai et al., 2019), and the cache of their projections."""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor

from sonant_encoders.blocks.dropout import Dropout

_LONGEST_CACHED = 1024  # frames; beyond, the table is computed for the occasion
_STEP = 128  # tables grow in steps, so that similar lengths share one


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """`(M,)` positions to `(M, width)` float32: sines on even columns, cosines on odd ones."""
    rate = torch.exp(torch.arange(0, width, 2, device=positions.device, dtype=torch.float32) * -(math.log(10000.0) / width))
    angle = positions.float()[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :width]


def distances(before: int, after: int, width: int, device: torch.device) -> Tensor:
    """`(before + after + 1, width)`: the sinusoids of the distances `before … -after`, descending."""
    return sinusoids(torch.arange(before, -after - 1, -1, device=device), width)


def nearer(table: Tensor, before: int, after: int, gap: tuple[int, int]) -> Tensor:
    """A table for the distances `before … -after` in which each row lies where the one `gap` frames nearer lay, on either side.

    The rows that would cross zero are empty: keys that near have no score by position.
    """
    distance = torch.arange(before, -after - 1, -1, device=table.device)
    source = torch.where(distance > 0, distance - gap[0], distance + gap[1])
    there = torch.where(distance > 0, source > 0, source <= 0)
    return table[(before - source).clamp(0, before + after)] * there[:, None]


def _autocast(device: torch.device) -> torch.dtype | None:
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None


class PositionProjection(torch.nn.Linear):
    """The linear layer on relative positions, with its result kept between calls.

    The table depends on the weight alone. In inference it is computed for the longest recording seen so far and sliced; it is
    computed anew when the weight has changed.

    Args:
        width: of the sinusoids and of the result.
        dropout: on the sinusoids, in training.
    """

    def __init__(self, width: int, *, dropout: float = 0.0) -> None:
        super().__init__(width, width, bias=False)
        self.dropout = Dropout(dropout)

    _kept: tuple[tuple[object, ...], Tensor] | None = None

    def train(self, mode: bool = True) -> Self:
        """Forget the table: a weight changed through `.data` does not show it, but then hardly in the midst of inference."""
        self._kept = None
        return super().train(mode)

    def table(self, before: int, after: int) -> Tensor:
        """`(before + after + 1, width)`: rows for the distances `before … -after`."""
        longest = (max(before, after) // _STEP + 1) * _STEP
        # A weight made in inference mode does not tell when it is changed.
        dropping = self.training and self.dropout.p > 0
        if dropping or torch.is_grad_enabled() or longest > _LONGEST_CACHED or self.weight.is_inference():
            return self._project(before, after)
        weight = self.weight
        stamp = (weight.data_ptr(), weight._version, weight.dtype, weight.device, _autocast(weight.device))
        kept = self._kept
        if kept is None or kept[0] != stamp or kept[1].shape[0] < 2 * longest - 1:
            kept = (stamp, self._project(longest - 1, longest - 1))
            self._kept = kept  # one assignment: threads may race here and each still reads a whole pair
        centre = kept[1].shape[0] // 2
        return kept[1][centre - before : centre + after + 1]

    def _project(self, before: int, after: int) -> Tensor:
        table = distances(before, after, self.in_features, self.weight.device)
        return self(self.dropout(table).to(self.weight.dtype))
