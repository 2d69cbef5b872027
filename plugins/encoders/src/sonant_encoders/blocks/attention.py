"""Multi-head self-attention with relative positions, through the kernel dispatch."""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor, nn

from sonant import kernels
from sonant_encoders.blocks.positions import PositionProjection


@frozen
class Visibility:
    """What the attention of one forward pass may see; see the operation `rel_pos_attention`."""

    rows: Tensor | None = None
    keys: Tensor | None = None


@frozen
class KeyCache:
    """Keys and values of earlier frames of a stream, `(B, K, H, d)` each."""

    k: Tensor
    v: Tensor


class RelPosAttention(nn.Module):
    """Multi-head attention whose scores depend on content and on distance (Dai et al., 2019).

    Args:
        width: of the model.
        heads: must divide `width`.
        bias: whether the projections have one (that of the positions never has).
        dropout: on the output, in training. Kernels that never build the weights cannot drop them.
        backend: of the kernel; `auto` takes the fastest that runs here.
    """

    def __init__(self, width: int, heads: int, *, bias: bool = True, dropout: float = 0.0, backend: str = "auto") -> None:
        super().__init__()
        self.heads, self.backend = heads, backend
        self.query = nn.Linear(width, width, bias=bias)
        self.key = nn.Linear(width, width, bias=bias)
        self.value = nn.Linear(width, width, bias=bias)
        self.position = PositionProjection(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=bias)
        self.pos_bias_u = nn.Parameter(torch.zeros(heads, width // heads))
        self.pos_bias_v = nn.Parameter(torch.zeros(heads, width // heads))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, visibility: Visibility, cache: KeyCache | None = None) -> tuple[Tensor, KeyCache]:
        """`(B, T, D)` to `(B, T, D)`, and the keys and values of all frames seen so far."""
        q, k, v = (self._split(project(x)) for project in (self.query, self.key, self.value))
        if cache is not None:
            k, v = torch.cat([cache.k, k], dim=1), torch.cat([cache.v, v], dim=1)
        p = self._split(self.position.table(q.shape[1], k.shape[1]))
        attend = kernels.get("rel_pos_attention", x.device.type, self.backend)
        out = attend(q, k, v, p, self.pos_bias_u, self.pos_bias_v, rows=visibility.rows, keys=visibility.keys)
        return self.dropout(self.out(out.flatten(-2))), KeyCache(k, v)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))  # (…, D) -> (…, H, d)
