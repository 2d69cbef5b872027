"""Transformer layers (Vaswani et al., 2017) with layer norm in front of each sublayer, and what they keep between steps."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu}


class Attention(nn.Module):
    """Multi-head scaled dot-product attention."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, T, D)` to keys and values, `(B, H, T, D / H)` each."""
        return self._split(self.k(x)), self._split(self.v(x))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, *, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """Queries `(B, U, D)` to `(B, U, D)`. `mask` is True where a key may be seen, `(B, 1, 1 or U, T)`."""
        found = F.scaled_dot_product_attention(self._split(self.q(x)), keys, values, attn_mask=mask, is_causal=causal)
        return self.dropout(self.out(found.transpose(1, 2).flatten(2)))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, T, D) -> (B, H, T, D / H)


class FeedForward(nn.Module):
    """Two linear layers."""

    def __init__(self, width: int, inner: int, activation: str, dropout: float) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)
        self.activation = _ACTIVATIONS[activation]
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """`(…, D)` to `(…, D)`."""
        return self.dropout(self.down(self.activation(self.up(x))))


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward network."""

    def __init__(self, width: int, heads: int, inner: int, activation: str, dropout: float) -> None:
        super().__init__()
        self.norm_attn, self.norm_ff = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads, dropout)
        self.ff = FeedForward(width, inner, activation, dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(B, T, D)`, the frames that may be seen `(B, 1, 1, T)` to `(B, T, D)`."""
        normed = self.norm_attn(x)
        x = x + self.attn(normed, *self.attn.keys_values(normed), mask=mask)
        return x + self.ff(self.norm_ff(x))


class Cache:
    """The keys and values of the tokens so far, `(R, H, U, D / H)` each, in buffers that double when they are full."""

    def __init__(self) -> None:
        self.length = 0
        self._buffers: list[Tensor] = []

    def extend(self, *more: Tensor) -> tuple[Tensor, ...]:
        """Add keys and values `(R, H, U, D / H)`; returns all of them."""
        end = self.length + more[0].shape[2]
        if not self._buffers or end > self._buffers[0].shape[2]:
            self._buffers = [self._grown(n, new, 2 * end) for n, new in enumerate(more)]
        for buffer, new in zip(self._buffers, more, strict=True):
            buffer[:, :, self.length : end] = new
        self.length = end
        return tuple(buffer[:, :, :end] for buffer in self._buffers)

    def _grown(self, number: int, like: Tensor, capacity: int) -> Tensor:
        rows, heads, _, width = like.shape
        grown = like.new_empty(rows, heads, capacity, width)
        if self.length:
            grown[:, :, : self.length] = self._buffers[number][:, :, : self.length]
        return grown

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order; one may come several times."""
        self._buffers = [buffer[rows] for buffer in self._buffers]


class Memory:
    """What the decoder attends to: keys and values of each layer, `(B, H, T, D / H)`, and the frames to see, `(B, 1, 1, T)`."""

    def __init__(self, layers: list[tuple[Tensor, Tensor]], mask: Tensor) -> None:
        self.layers, self.mask = layers, mask

    @property
    def batch(self) -> int:
        """The number of utterances."""
        return len(self.mask)

    def select(self, utterances: Tensor) -> Memory:
        """Of these utterances."""
        return Memory([(keys[utterances], values[utterances]) for keys, values in self.layers], self.mask[utterances])


class DecoderLayer(nn.Module):
    """Self-attention to the tokens so far, attention to the encoder, and a feed-forward network."""

    def __init__(self, width: int, heads: int, inner: int, activation: str, dropout: float) -> None:
        super().__init__()
        self.norm_attn, self.norm_cross, self.norm_ff = (nn.LayerNorm(width) for _ in range(3))
        self.attn, self.cross = Attention(width, heads, dropout), Attention(width, heads, dropout)
        self.ff = FeedForward(width, inner, activation, dropout)

    def remember(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the encoder gives, `(B, T, D)`, as keys and values to attend to."""
        return self.cross.keys_values(x)

    def forward(self, x: Tensor, cache: Cache, memory: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        """More tokens `(R, U, D)` to `(R, U, D)`: all that there are, or one behind those in the cache.

        The rows are those of the utterances in turn, equally many of each.
        """
        normed = self.norm_attn(x)
        keys, values = cache.extend(*self.attn.keys_values(normed))
        x = x + self.attn(normed, keys, values, causal=x.shape[1] > 1)
        utterances = len(mask)
        queries = self.norm_cross(x).reshape(utterances, -1, x.shape[-1])  # (R, U, D) -> (B, R / B * U, D)
        x = x + self.cross(queries, *memory, mask=mask).view_as(x)
        return x + self.ff(self.norm_ff(x))


def sinusoids(positions: int, width: int) -> Tensor:
    """The sines and cosines of each position, `(positions, width)`, divided by the root of the width."""
    rates = torch.exp(-math.log(10000.0) / width * torch.arange(0.0, width, 2))
    angles = torch.arange(0.0, positions)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1) / math.sqrt(width)
