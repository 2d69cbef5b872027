"""Multi-head self-attention with relative positions, through the kernel dispatch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from attrs import frozen
from torch import Tensor, nn

from sonant import kernels
from sonant.errors import KernelUnavailable
from sonant_encoders.blocks.dropout import Dropout
from sonant_encoders.blocks.global_tokens import GlobalTokens
from sonant_encoders.blocks.linear import Linear
from sonant_encoders.blocks.positions import PositionProjection, nearer
from sonant_encoders.kernels.rel_pos_attention import dropped


@frozen
class Visibility:
    """What the attention of one forward pass may see: `rows` and `keys` as in the operation `rel_pos_attention`, and `reach`,
    how far a row sees before and after itself, -1 for unlimited. Distances are taken to be `gap` frames less on either side,
    and nearer keys have no score by position."""

    rows: Tensor | None = None
    keys: Tensor | None = None
    reach: tuple[int, int] = (-1, -1)
    gap: tuple[int, int] = (0, 0)


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
        dropout: on the output, in training.
        dropout_weights: on the attention's weights, in training, which then takes longer: fused kernels never build them.
        dropout_positions: on the sinusoids of the distances, in training.
        backend: of the kernel; `auto` takes the fastest that runs here.
        global_tokens: frames that all see and that see all, if there are any.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        bias: bool = True,
        dropout: float = 0.0,
        dropout_weights: float = 0.0,
        dropout_positions: float = 0.0,
        backend: str = "auto",
        global_tokens: GlobalTokens | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.backend = heads, backend
        self.query = Linear(width, width, bias=bias)
        self.key = Linear(width, width, bias=bias)
        self.value = Linear(width, width, bias=bias)
        self.position = PositionProjection(width, dropout=dropout_positions)
        self.out = Linear(width, width, bias=bias)
        self.pos_bias_u = nn.Parameter(torch.zeros(heads, width // heads))
        self.pos_bias_v = nn.Parameter(torch.zeros(heads, width // heads))
        self.global_tokens = global_tokens
        self.dropout, self.dropout_weights = Dropout(dropout), Dropout(dropout_weights)

    def forward(self, x: Tensor, visibility: Visibility, cache: KeyCache | None = None) -> tuple[Tensor, KeyCache]:
        """`(B, T, D)` to `(B, T, D)`, and the keys and values of all frames seen so far.

        Raises:
            KernelUnavailable: in training weights are to be dropped, and the backend asked for by name cannot do that.
        """
        q, k, v = (self._split(project(x)) for project in (self.query, self.key, self.value))
        if cache is not None:
            k, v = torch.cat([cache.k, k], dim=1), torch.cat([cache.v, v], dim=1)
        rows, keys = visibility.rows, visibility.keys
        p, reach = self._positions(visibility, q.shape[1], k.shape[1])
        attend = self._kernel(x.device.type)
        biases = self.pos_bias_u, self.pos_bias_v
        if self.global_tokens is None:
            out = attend(q, k, v, p, *biases, rows=rows, keys=keys, reach=reach)
        else:
            terms = self.global_tokens(x, q, k, v, keys, self.dropout_weights.p if self.training else 0.0)
            out = attend(q, k, v, p, *biases, rows=rows, keys=keys, reach=reach, extra=terms.extra)
            out = out.index_copy(1, terms.at, terms.answers.to(out.dtype))
        return self.dropout(self.out(out.flatten(-2))), KeyCache(k, v)

    def _kernel(self, device: str) -> Callable[..., Tensor]:
        if not self.training or self.dropout_weights.p == 0:
            return kernels.get("rel_pos_attention", device, self.backend)
        if self.backend not in ("auto", "reference"):
            raise KernelUnavailable(
                f"attention_backend {self.backend!r} builds no attention weights, and dropout_att {self.dropout_weights.p} drops "
                "some in training: set one to auto, or the other to 0"
            )
        return partial(dropped.rel_pos_attention, dropout=self.dropout_weights)

    def _positions(self, visibility: Visibility, queries: int, known: int) -> tuple[Tensor, tuple[int, int]]:
        """The projected positions `(M, H, d)` of the distances within reach, and that reach."""
        far, near = visibility.reach
        before = known - 1 if far < 0 else min(far, known - 1)
        after = queries - 1 if near < 0 else min(near, queries - 1)
        table = self.position.table(before, after)
        if visibility.gap != (0, 0):
            table = nearer(table, before, after, visibility.gap)
        return self._split(table), (before, after)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))  # (…, D) -> (…, H, d)
