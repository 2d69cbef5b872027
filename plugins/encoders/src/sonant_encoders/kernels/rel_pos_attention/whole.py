"""`rel_pos_attention` with all scores at once and its gradient written out: for training on a CPU.

PyTorch's fused attention has no gradient for its bias there, and what it does instead makes a copy for most of its steps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_LARGEST = 2**26  # scores


def wanted(q: Tensor, k: Tensor) -> bool:
    """Whether this is the faster way: gradients are wanted, of float32 on a CPU, and the scores are not too many."""
    if not torch.is_grad_enabled() or q.device.type != "cpu" or q.dtype != torch.float32:
        return False
    if torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    return q.shape[1] == k.shape[1] and q.shape[0] * q.shape[2] * q.shape[1] * k.shape[1] <= _LARGEST


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    p: Tensor,
    u: Tensor,
    v_bias: Tensor,
    hidden: Tensor | None,
    keep: Tensor | None = None,
) -> Tensor:
    """As the operation, for as many queries as keys and positions `T - 1 … 1 - T`.

    `hidden` is what `(B, 1, T or 1, T)` keys add to their scores: 0, or so little that they have no weight. `keep` `(H B, T, T)`
    is what the weights are multiplied by.
    """
    scale = q.shape[-1] ** -0.5
    with_u, with_v = _heads_first((q + u) * scale), _heads_first((q + v_bias) * scale)
    inputs = with_u, with_v, _heads_first(k), _heads_first(v), p.transpose(0, 1)
    out: Tensor = _Attention.apply(*inputs, hidden, keep)  # type: ignore[no-untyped-call]
    return out.permute(1, 2, 0, 3)


def _heads_first(x: Tensor) -> Tensor:
    return x.permute(2, 0, 1, 3).contiguous()  # (B, T, H, d) -> (H, B, T, d), so that a head's positions serve all recordings


class _Attention(torch.autograd.Function):
    """`(H, B, T, d)` queries for content and for positions, keys, values, `(H, 2 T - 1, d)` positions to `(H, B, T, d)`."""

    @staticmethod
    def forward(
        ctx: Any,
        with_u: Tensor,
        with_v: Tensor,
        k: Tensor,
        v: Tensor,
        p: Tensor,
        hidden: Tensor | None,
        keep: Tensor | None,
    ) -> Tensor:
        heads, batch, frames, width = k.shape
        by_distance = torch.bmm(with_v.view(heads, batch * frames, width), p.transpose(1, 2))  # (H, B T, 2 T - 1)
        images = heads * batch, frames, width
        scores = torch.baddbmm(
            _by_key(by_distance.view(images[0], frames, -1)), with_u.view(images), k.view(images).transpose(1, 2)
        )
        if hidden is not None:
            scores.view(heads, batch, frames, frames).add_(hidden.transpose(0, 1))
        weights = torch.softmax(scores, dim=-1)
        ctx.save_for_backward(with_u, with_v, k, v, p, weights, keep)
        return torch.bmm(_kept(weights, keep), v.view(images)).view_as(k)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, None, None]:
        with_u, with_v, k, v, p, weights, keep = ctx.saved_tensors
        heads, batch, frames, width = k.shape
        images = heads * batch, frames, width
        gradient = gradient.contiguous().view(images)
        of_v = torch.bmm(_kept(weights, keep).transpose(1, 2), gradient)
        of_weights = torch.bmm(gradient, v.view(images).transpose(1, 2))
        if keep is not None:
            of_weights.mul_(keep)
        of_scores = torch._softmax_backward_data(of_weights, weights, -1, torch.float32)
        of_u = torch.bmm(of_scores, k.view(images))
        of_k = torch.bmm(of_scores.transpose(1, 2), with_u.view(images))
        by_distance = of_scores.new_zeros(heads * batch, frames, 2 * frames - 1)
        _by_key(by_distance).copy_(of_scores)
        by_distance = by_distance.view(heads, batch * frames, 2 * frames - 1)
        of_with_v = torch.bmm(by_distance, p)
        of_p = torch.bmm(by_distance.transpose(1, 2), with_v.view(heads, batch * frames, width))
        return of_u.view_as(k), of_with_v.view_as(k), of_k.view_as(k), of_v.view_as(k), of_p, None, None


def _kept(weights: Tensor, keep: Tensor | None) -> Tensor:
    return weights if keep is None else weights * keep


def _by_key(by_distance: Tensor) -> Tensor:
    """`(N, T, 2 T - 1)` by descending distance seen as `(N, T, T)` by key: row t begins T - 1 - t in."""
    count, frames, columns = by_distance.shape
    strides = (frames * columns, columns - 1, 1)
    return by_distance.as_strided((count, frames, frames), strides, by_distance.storage_offset() + frames - 1)
