"""Integrate and fire: frames added up to tokens."""

from __future__ import annotations

import torch
from torch import Tensor


def integrate(values: Tensor, weights: Tensor, count: int) -> Tensor:
    """Adds up weighted frames until the weights make 1, fires a token, and goes on with what is left of the frame.

    Written without a loop: put end to end, the weights cut a line into a piece for every frame, and token `u` is what lies
    between `u` and `u + 1`. A frame's share in a token is how much of its piece lies there.

    Args:
        values: `(B, T, D)` frames.
        weights: `(B, T)` not negative, float32, zero where there is only padding.
        count: how many tokens to fire. Those that the weights do not reach are zero.

    Returns:
        `(B, count, D)` tokens.
    """
    ends = weights.cumsum(1)[:, None, :]  # (B, 1, T)
    starts = ends - weights[:, None, :]
    token = torch.arange(count, device=weights.device, dtype=weights.dtype)[None, :, None]  # (1, U, 1)
    shares = (torch.minimum(ends, token + 1) - torch.maximum(starts, token)).clamp(min=0)  # (B, U, T)
    return shares.to(values.dtype) @ values
