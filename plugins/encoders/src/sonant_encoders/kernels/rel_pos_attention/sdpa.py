"""`rel_pos_attention` on PyTorch's fused attention: the position scores become its bias.

The scores by distance are computed once as a matrix product and read askew through strides (row i shifted by i), so the
shift costs no copy. Queries are taken a block at a time, so memory grows with the length and not with its square.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_LARGEST_BIAS = 2**25  # elements of one block's bias


def rel_pos_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    p: Tensor,
    u: Tensor,
    v_bias: Tensor,
    *,
    rows: Tensor | None = None,
    keys: Tensor | None = None,
) -> Tensor:
    """See the package's docstring."""
    batch, queries, heads, width = q.shape
    known = k.shape[1]
    with_u = (q + u).transpose(1, 2)  # (B, H, Tq, d)
    with_v = ((q + v_bias) * width**-0.5).transpose(1, 2)
    positions = p.permute(1, 2, 0)  # (H, d, M)
    k, v = k.transpose(1, 2), v.transpose(1, 2)
    block = max(16, _LARGEST_BIAS // (batch * heads * known))
    outputs = []
    for first in range(0, queries, block):
        last = min(first + block, queries)
        near = positions[..., queries - last : known + queries - 1 - first]  # the distances this block has to its keys
        bias = _shift(with_v[:, :, first:last] @ near, known)
        bias, blind = _masked(bias, None if rows is None else rows[:, first:last], keys)
        out = functional.scaled_dot_product_attention(with_u[:, :, first:last], k, v, attn_mask=bias)
        outputs.append(out if blind is None else out.masked_fill(blind, 0.0))
    out = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)
    return out.transpose(1, 2)


def _shift(by_distance: Tensor, known: int) -> Tensor:
    """`(B, H, R, known + R - 1)` scores by descending distance to `(B, H, R, known)` scores by key: row r starts R - 1 - r in."""
    rows = by_distance.shape[-2]
    if rows == 1:
        return by_distance
    by_distance = by_distance.contiguous()
    b, h, r, c = by_distance.stride()
    return by_distance.as_strided(
        (*by_distance.shape[:2], rows, known), (b, h, r - c, c), by_distance.storage_offset() + rows - 1
    )


def _masked(bias: Tensor, rows: Tensor | None, keys: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The bias with what may not be seen far below everything else, and the rows that see nothing, `(B, 1, R, 1)`."""
    if rows is None and keys is None:
        return bias, None
    j = torch.arange(bias.shape[-1], device=bias.device)
    allowed = None
    if rows is not None:
        allowed = ((j >= rows[0, :, None]) & (j < rows[1, :, None]))[None, None]
    if keys is not None:
        valid = ((j >= keys[0, :, None]) & (j < keys[1, :, None]))[:, None, None, :]
        allowed = valid if allowed is None else allowed & valid
    assert allowed is not None
    return bias.masked_fill(~allowed, torch.finfo(bias.dtype).min / 2), ~allowed.any(-1, keepdim=True)
