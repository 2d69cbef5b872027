"""From the losses of utterances to one number."""

from __future__ import annotations

import torch
from torch import Tensor

from sonant_training.losses.config import Reduction


def reduce(losses: Tensor, label_lens: Tensor, how: Reduction) -> Tensor:
    """`(B,)`, `(B,)` to a scalar."""
    if how == "mean_batch":
        return losses.mean()
    if how == "sum":
        return losses.sum()
    if how == "mean":
        return (losses / label_lens.clamp(min=1)).mean()
    return losses.sum() / label_lens.sum().clamp(min=1)


def without_infinite(losses: Tensor) -> Tensor:
    """`(B,)` with 0, and no gradient, for what cannot be aligned."""
    return torch.where(losses.isinf(), 0.0, losses)
