"""Subsampling by laying frames side by side."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from sonant import lengths
from sonant_encoders.blocks.linear import Linear


class Stacking(nn.Module):
    """`factor` frames in a row become one, by a linear layer; silence fills the last one up.

    Args:
        features: bins of the input.
        width: of the output.
        kind: `feature_stacking` has no bias, `stacking` has one, and `stacking_norm` normalizes each frame before.
        factor: how many times fewer frames.
    """

    def __init__(
        self, features: int, width: int, *, kind: Literal["feature_stacking", "stacking", "stacking_norm"], factor: int
    ) -> None:
        super().__init__()
        self.factor = factor
        self.norm = nn.LayerNorm(features) if kind == "stacking_norm" else nn.Identity()
        self.out = Linear(factor * features, width, bias=kind != "feature_stacking")

    def forward(self, feats: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, T, F)`, `(B,)` to `(B, T', D)`, `(B,)`."""
        if not lengths.all_valid(lens, feats.shape[1]):
            feats = torch.where(lengths.mask(lens, feats.shape[1])[..., None], feats, 0.0)
        missing = -feats.shape[1] % self.factor if feats.shape[1] else self.factor
        stacked = self.norm(functional.pad(feats, (0, 0, 0, missing))).unflatten(1, (-1, self.factor)).flatten(2)
        return self.out(stacked), (lens + self.factor - 1).div(self.factor, rounding_mode="floor")
