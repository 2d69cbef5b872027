"""Sinusoidal positions, absolute (Vaswani et al., 2017) and relative (Dai et al., 2019), and the cache of their projections."""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor, nn

_LONGEST_CACHED = 1024  # frames; beyond, the table is computed for the occasion
_STEP = 128  # tables grow in steps, so that similar lengths share one


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """`(M,)` positions to `(M, width)` float32: sines on even columns, cosines on odd ones."""
    rate = torch.exp(torch.arange(0, width, 2, device=positions.device, dtype=torch.float32) * -(math.log(10000.0) / width))
    angle = positions.float()[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :width]


def distances(longest: int, width: int, device: torch.device) -> Tensor:
    """The sinusoids of the distances `longest - 1 … -(longest - 1)`, descending."""
    return sinusoids(torch.arange(longest - 1, -longest, -1, device=device), width)


def _autocast(device: torch.device) -> torch.dtype | None:
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None


class PositionProjection(nn.Linear):
    """The linear layer on relative positions, with its result kept between calls.

    The table depends on the weight alone. In inference it is computed for the longest recording seen so far and sliced; it is
    computed anew when the weight has changed.
    """

    _kept: tuple[tuple[object, ...], Tensor] | None = None

    def train(self, mode: bool = True) -> Self:
        """Forget the table: a weight changed through `.data` does not show it, but then hardly in the midst of inference."""
        self._kept = None
        return super().train(mode)

    def table(self, queries: int, known: int) -> Tensor:
        """`(known + queries - 1, width)`: rows for the distances `known - 1 … -(queries - 1)`."""
        longest = -(-known // _STEP) * _STEP
        # A weight made in inference mode does not tell when it is changed.
        if torch.is_grad_enabled() or longest > _LONGEST_CACHED or self.weight.is_inference():
            return self._slice(self._project(known), queries, known)
        weight = self.weight
        stamp = (weight.data_ptr(), weight._version, weight.dtype, weight.device, _autocast(weight.device))
        kept = self._kept
        if kept is None or kept[0] != stamp or kept[1].shape[0] < 2 * known - 1:
            kept = (stamp, self._project(longest))
            self._kept = kept  # one assignment: threads may race here and each still reads a whole pair
        return self._slice(kept[1], queries, known)

    def _project(self, longest: int) -> Tensor:
        return self(distances(longest, self.in_features, self.weight.device).to(self.weight.dtype))

    @staticmethod
    def _slice(table: Tensor, queries: int, known: int) -> Tensor:
        centre = (table.shape[0] - 1) // 2
        return table[centre - (known - 1) : centre + queries]
