"""The formula of `rel_pos_attention` written for clarity: every score gathered by its distance. Slow, exact, differentiable."""

from __future__ import annotations

import torch
from torch import Tensor


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
    return torch.einsum("bhij,bjhd->bihd", *weighed(q, k, v, p, u, v_bias, rows=rows, keys=keys, reach=reach, extra=extra))


def weighed(
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
) -> tuple[Tensor, Tensor]:
    """The weights `(B, H, Tq, G + Tk)`, and the values `(B, G + Tk, H, d)` that they are of; those of `extra` come first."""
    queries, known = q.shape[1], k.shape[1]
    before, after = reach or (known - 1, queries - 1)
    i = torch.arange(known - queries, known, device=q.device)[:, None]
    j = torch.arange(known, device=q.device)[None, :]
    content = torch.einsum("bihd,bjhd->bhij", q + u, k)
    by_distance = torch.einsum("bihd,mhd->bhim", q + v_bias, p)
    column = (before - (i - j)).clamp(0, before + after).expand(q.shape[0], q.shape[2], queries, known)
    scores = (content + by_distance.gather(-1, column)) / q.shape[-1] ** 0.5
    allowed = visible(rows, keys, queries, known, q.shape[0], q.device)
    if extra is not None:
        scores, v = torch.cat([extra[0].to(scores.dtype), scores], dim=-1), torch.cat([extra[1], v], dim=1)
        there = extra[0].isneginf().logical_not()
        allowed = torch.cat([there, allowed.expand(-1, there.shape[1], -1, -1)], dim=-1)
    scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
    return scores.softmax(-1).masked_fill(~allowed, 0.0), v


def visible(rows: Tensor | None, keys: Tensor | None, queries: int, known: int, batch: int, device: torch.device) -> Tensor:
    """The intervals as one mask, `(B, 1, Tq, Tk)`."""
    j = torch.arange(known, device=device)
    allowed = torch.ones(batch, 1, queries, known, dtype=torch.bool, device=device)
    if rows is not None:
        allowed = allowed & ((j >= rows[0, :, None]) & (j < rows[1, :, None]))
    if keys is not None:
        allowed = allowed & ((j >= keys[0, :, None]) & (j < keys[1, :, None]))[:, None, None, :]
    return allowed
