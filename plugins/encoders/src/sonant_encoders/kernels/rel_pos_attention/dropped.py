"""`rel_pos_attention` with dropout on its weights, in training: fused kernels never build the weights, and cannot drop them.

It is no backend: what it computes is another thing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sonant_encoders.blocks.dropout import Dropout, keep_mask
from sonant_encoders.kernels.rel_pos_attention import reference, whole


def rel_pos_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    p: Tensor,
    u: Tensor,
    v_bias: Tensor,
    *,
    dropout: Dropout,
    rows: Tensor | None = None,
    keys: Tensor | None = None,
    reach: tuple[int, int] | None = None,
    extra: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """See the package's docstring; `dropout` is of the weights, after the softmax."""
    if extra is None and whole.wanted(q, k) and p.shape[0] == 2 * q.shape[1] - 1:
        return _whole(q, k, v, p, u, v_bias, dropout.p, rows, keys)
    weights, values = reference.weighed(q, k, v, p, u, v_bias, rows=rows, keys=keys, reach=reach, extra=extra)
    return torch.einsum("bhij,bjhd->bihd", dropout(weights), values)


def _whole(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    p: Tensor,
    u: Tensor,
    v_bias: Tensor,
    rate: float,
    rows: Tensor | None,
    keys: Tensor | None,
) -> Tensor:
    batch, frames, heads, _ = q.shape
    keep = keep_mask(torch.Size((heads * batch, frames, frames)), rate)
    if rows is None and keys is None:
        return whole.attend(q, k, v, p, u, v_bias, None, keep)
    allowed = reference.visible(rows, keys, frames, frames, batch, q.device)
    hidden = torch.zeros(allowed.shape, device=q.device).masked_fill_(~allowed, torch.finfo(torch.float32).min / 2)
    sees = allowed.any(-1).transpose(1, 2)[..., None]  # (B, T, 1, 1)
    return whole.attend(q, k, v, p, u, v_bias, hidden, keep).masked_fill(~sees, 0.0)
