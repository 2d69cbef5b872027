"""One layer of the E-Branchformer: two branches that look at all frames and at near ones, and what joins them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from acme_speech.encoder.config import EBranchformerConfig


def rotate(x: Tensor) -> Tensor:
    """Rotary positions (Su et al., 2021): turns pairs of channels of `(B, H, T, d)` by angles that grow with the frame.

    The product of a query and a key then depends on how far apart they are, and not on where they are.
    """
    frames, width = x.shape[-2:]
    rate = 10000.0 ** (-torch.arange(0, width, 2, device=x.device) / width)  # (d / 2,)
    angle = torch.arange(frames, device=x.device)[:, None] * rate  # (T, d / 2)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class SelfAttention(nn.Module):
    """The global branch: scaled dot-product attention of every frame to every other."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """`(B, T, D)`, which frames count `(B, T)` to `(B, T, D)`."""
        q, k, v = self.query_key_value(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, H, T, d)
        rate = self.dropout if self.training else 0.0
        mask = valid[:, None, None, :]
        y = functional.scaled_dot_product_attention(rotate(q), rotate(k), v, attn_mask=mask, dropout_p=rate)
        return self.out(y.transpose(1, 2).flatten(2))


class DepthwiseConv(nn.Module):
    """Every channel over time, by itself. It cannot look into the padding."""

    def __init__(self, width: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, kernel_size, padding=kernel_size // 2, groups=width)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """`(B, T, D)`, which frames count `(B, T)` to `(B, T, D)`."""
        x = x.masked_fill(~valid[..., None], 0.0)
        return self.conv(x.transpose(1, 2)).transpose(1, 2)


class ConvolutionalGate(nn.Module):
    """The local branch, an MLP with a convolutional gate: `W2 (a * conv(norm(b)))` with `[a, b] = gelu(W1 x)`."""

    def __init__(self, width: int, hidden: int, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.norm = nn.LayerNorm(hidden // 2)
        self.conv = DepthwiseConv(hidden // 2, kernel_size)
        self.dropout = nn.Dropout(dropout)
        self.down = nn.Linear(hidden // 2, width)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """`(B, T, D)`, which frames count `(B, T)` to `(B, T, D)`."""
        a, b = functional.gelu(self.up(x)).chunk(2, dim=-1)
        return self.down(self.dropout(a * self.conv(self.norm(b), valid)))


class Merge(nn.Module):
    """Joins the branches: `W (c + conv(c))`, where `c` is both of them side by side."""

    def __init__(self, width: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = DepthwiseConv(2 * width, kernel_size)
        self.out = nn.Linear(2 * width, width)

    def forward(self, wide: Tensor, near: Tensor, valid: Tensor) -> Tensor:
        """Two of `(B, T, D)`, which frames count `(B, T)` to `(B, T, D)`."""
        both = torch.cat([wide, near], dim=-1)
        return self.out(both + self.conv(both, valid))


def feed_forward(width: int, hidden: int, dropout: float) -> nn.Sequential:
    """Norm, linear, SiLU, linear; each layer has one before the branches and one behind."""
    up, down = nn.Linear(width, hidden), nn.Linear(hidden, width)
    return nn.Sequential(nn.LayerNorm(width), up, nn.SiLU(), nn.Dropout(dropout), down, nn.Dropout(dropout))


class EBranchformerLayer(nn.Module):
    """Half a feed-forward, both branches merged, half a feed-forward, and a norm."""

    def __init__(self, config: EBranchformerConfig) -> None:
        super().__init__()
        width, dropout = config.d_model, config.dropout
        self.before = feed_forward(width, config.d_ff, dropout)
        self.norm_wide, self.norm_near = nn.LayerNorm(width), nn.LayerNorm(width)
        self.wide = SelfAttention(width, config.n_heads, dropout)
        self.near = ConvolutionalGate(width, config.d_gate, config.kernel_size, dropout)
        self.merge = Merge(width, config.merge_kernel_size)
        self.dropout = nn.Dropout(dropout)
        self.after = feed_forward(width, config.d_ff, dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """`(B, T, D)`, which frames count `(B, T)` to `(B, T, D)`."""
        x = x + 0.5 * self.before(x)
        wide = self.dropout(self.wide(self.norm_wide(x), valid))
        near = self.dropout(self.near(self.norm_near(x), valid))
        x = x + self.dropout(self.merge(wide, near, valid))
        x = x + 0.5 * self.after(x)
        return self.norm(x)
