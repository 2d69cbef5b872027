"""`rel_pos_attention` on PyTorch's fused attention: the position scores become its bias.

The scores by distance are computed once as a matrix product and read askew through strides (row i shifted by i), so the
shift costs no copy. Queries are taken a block at a time, each with the keys within its reach alone: time and memory grow with
the length times the reach, and memory never with the length's square.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from sonant_encoders.kernels.rel_pos_attention import whole

_LARGEST_BIAS = 2**25  # elements of one block's bias
_LEAST_ROWS = 64  # of a block, if the bias allows: smaller ones spend their time on being called


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
    reach: tuple[int, int] | None = None,
    extra: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """See the package's docstring."""
    if extra is None and whole.wanted(q, k) and p.shape[0] == 2 * q.shape[1] - 1:
        return _whole(q, k, v, p, u, v_bias, rows, keys)
    batch, queries, heads, width = q.shape
    known = k.shape[1]
    before, after = reach or (known - 1, queries - 1)
    with_u = (q + u).transpose(1, 2)  # (B, H, Tq, d)
    with_v = ((q + v_bias) * width**-0.5).transpose(1, 2)
    positions = p.permute(1, 2, 0)  # (H, d, M)
    k, v = k.transpose(1, 2), v.transpose(1, 2)
    block = _rows_of_a_block(queries, known, before + after, batch * heads)
    outputs = []
    for first in range(0, queries, block):
        last = min(first + block, queries)
        top, bottom = known - queries + first, known - queries + last - 1  # where the block begins and ends among the keys
        low, high = max(0, top - before), min(known, bottom + after + 1)  # the keys that it reaches
        far, near = bottom - low, high - 1 - top  # its distances to them are far … -near
        within = positions[..., before - min(far, before) : before + min(near, after) + 1]
        by_distance = with_v[:, :, first:last] @ within
        if far > before or near > after:  # what lies beyond reach is masked below
            by_distance = functional.pad(by_distance, (max(0, far - before), max(0, near - after)))
        bias = _shift(by_distance, high - low)
        bias, blind = _masked(bias, low, None if rows is None else rows[:, first:last], keys)
        seen, values = k[:, :, low:high], v[:, :, low:high]
        if extra is not None:
            scores = extra[0][:, :, first:last].to(bias.dtype)
            bias = torch.cat([scores, bias], dim=-1)
            seen = functional.pad(seen, (0, 0, scores.shape[-1], 0))  # keys of zeros: these scores are complete
            values = torch.cat([extra[1].transpose(1, 2), values], dim=2)
            blind = None if blind is None else blind & scores.isneginf().all(-1, keepdim=True)
        out = functional.scaled_dot_product_attention(with_u[:, :, first:last], seen, values, attn_mask=bias)
        outputs.append(out if blind is None else out.masked_fill(blind, 0.0))
    out = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)
    return out.transpose(1, 2)


def _whole(
    q: Tensor, k: Tensor, v: Tensor, p: Tensor, u: Tensor, v_bias: Tensor, rows: Tensor | None, keys: Tensor | None
) -> Tensor:
    """All at once, in training: every query with every key."""
    hidden, blind = _masked(q.new_zeros(len(q), 1, 1 if rows is None else q.shape[1], k.shape[1]), 0, rows, keys)
    out = whole.attend(q, k, v, p, u, v_bias, None if blind is None else hidden)
    return out if blind is None or not blind.any() else out.masked_fill(blind.transpose(1, 2), 0.0)


def _rows_of_a_block(queries: int, known: int, reach: int, images: int) -> int:
    """As many rows as they reach keys beyond themselves, so that at most half of what is computed is out of sight; fewer where
    the bias of all `images` would grow too large."""
    blocks = max(1, queries // max(_LEAST_ROWS, reach))
    rows = -(-queries // blocks)
    return max(1, min(rows, max(16, _LARGEST_BIAS // (images * min(known, rows + reach)))))


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


def _masked(bias: Tensor, low: int, rows: Tensor | None, keys: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The bias, its first column that of key `low`, with what may not be seen far below everything else; and the rows that see
    nothing, `(B, 1, R, 1)`."""
    if rows is None and keys is None:
        return bias, None
    j = torch.arange(low, low + bias.shape[-1], device=bias.device)
    allowed = None
    if rows is not None:
        allowed = ((j >= rows[0, :, None]) & (j < rows[1, :, None]))[None, None]
    if keys is not None:
        valid = ((j >= keys[0, :, None]) & (j < keys[1, :, None]))[:, None, None, :]
        allowed = valid if allowed is None else allowed & valid
    assert allowed is not None
    return bias.masked_fill(~allowed, torch.finfo(bias.dtype).min / 2), ~allowed.any(-1, keepdim=True)
