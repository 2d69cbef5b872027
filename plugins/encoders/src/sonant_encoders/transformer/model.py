"""The Transformer encoder of "Attention Is All You Need" (Vaswani et al., 2017), for speech."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from sonant import lengths
from sonant_encoders.blocks.dropout import Dropout
from sonant_encoders.blocks.feed_forward import FeedForward
from sonant_encoders.blocks.layered import Behind, heard
from sonant_encoders.blocks.linear import Linear
from sonant_encoders.blocks.positions import sinusoids
from sonant_encoders.blocks.subsampling import Subsampling
from sonant_encoders.transformer.config import TransformerConfig


class SelfAttention(nn.Module):
    """Scaled dot-product attention with several heads, on PyTorch's fused kernel."""

    def __init__(self, width: int, heads: int, bias: bool, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = Linear(width, width, bias=bias)
        self.key = Linear(width, width, bias=bias)
        self.value = Linear(width, width, bias=bias)
        self.out = Linear(width, width, bias=bias)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(B, T, D)`, which keys count `(B, 1, 1, T)` to `(B, T, D)`."""
        q, k, v = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value))
        rate = self.dropout if self.training else 0.0
        out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=rate)  # (B, H, T, d)
        return self.out(out.transpose(1, 2).flatten(2))


class TransformerLayer(nn.Module):
    """Attention and feed-forward, each with a residual connection and a norm before or after."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.pre = config.norm == "pre"
        hidden = config.d_ff or 4 * config.d_model
        self.attention = SelfAttention(config.d_model, config.n_heads, config.use_bias, config.dropout)
        self.norm_attention = nn.LayerNorm(config.d_model)
        self.feed_forward = FeedForward(
            config.d_model, hidden, activation=config.activation, dropout=config.dropout, bias=config.use_bias
        )
        self.norm_feed_forward = nn.LayerNorm(config.d_model)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(B, T, D)`, which keys count `(B, 1, 1, T)` to `(B, T, D)`."""
        if self.pre:
            x = x + self.dropout(self.attention(self.norm_attention(x), mask))
            return x + self.dropout(self.feed_forward(self.norm_feed_forward(x)))
        x = self.norm_attention(x + self.dropout(self.attention(x, mask)))
        return self.norm_feed_forward(x + self.dropout(self.feed_forward(x)))


class Transformer(nn.Module):
    """Subsampling, absolute sinusoidal positions, a stack of Transformer blocks, and with pre-norm a final norm.

    Args:
        config: a `TransformerConfig`.
        d_in: bins of the features.
    """

    def __init__(self, config: TransformerConfig, *, d_in: int) -> None:
        super().__init__()
        self.config = config
        self.d_in, self.d_out = d_in, config.d_model
        self.subsampling = config.subsampling_factor
        self.pre_encode = Subsampling(
            d_in,
            config.d_model,
            kind=config.subsampling,
            factor=config.subsampling_factor,
            channels=config.subsampling_conv_channels or config.d_model,
            causal=False,
        )
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model) if config.norm == "pre" else nn.Identity()

    def forward(self, feats: Tensor, lens: Tensor, *, behind: Behind | None = None) -> tuple[Tensor, Tensor]:
        """`(B, T, F)`, `(B,)` to `(B, T', D)`, `(B,)`; computed in the dtype of the weights. See `Behind`."""
        x, lens = self.pre_encode(feats.to(self.pre_encode.out.weight.dtype), lens)
        positions = sinusoids(torch.arange(x.shape[1], device=x.device), self.d_out).to(x.dtype)
        x = self.dropout(x * math.sqrt(self.d_out) + positions)
        # A recording without a single frame still has to see something, or its softmax is empty.
        mask = lengths.mask(lens.clamp(min=1), x.shape[1])[:, None, None, :]
        for number, layer in enumerate(self.layers):
            x = layer(x, mask)
            if behind is not None:
                behind(number, x, lens)
        return self.norm(x), lens

    @property
    def depth(self) -> int:
        """Layers, which are numbered from 0."""
        return len(self.layers)

    def with_layers(
        self, feats: Tensor, lens: Tensor, layers: Sequence[int]
    ) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
        """What `forward` gives; and behind each of `layers` `(B, T', D)`, `(B,)`, as if the encoder ended there."""
        enc, counts, found = heard(self, feats, lens, layers)
        return enc, counts, [(self.norm(x), valid) for x, valid in found]
