"""The Transformer encoder of NeMo 3.0: stacked frames, relative positions, pre-norm blocks, a final norm."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from sonant import kernels, lengths
from sonant_encoders.blocks import context
from sonant_encoders.blocks.dropout import Dropout
from sonant_encoders.blocks.feed_forward import FeedForward
from sonant_encoders.blocks.layered import Behind, heard
from sonant_encoders.blocks.linear import Linear
from sonant_encoders.blocks.positions import PositionProjection, sinusoids
from sonant_encoders.blocks.stacking import Stacking
from sonant_encoders.stacking_transformer.config import StackingTransformerConfig


class Attention(nn.Module):
    """Multi-head attention with one projection for queries, keys and values, over relative positions or none."""

    def __init__(self, config: StackingTransformerConfig) -> None:
        super().__init__()
        width, self.heads = config.d_model, config.n_heads
        self.size = [-1, 0 if config.attn_mode == "causal" else -1]  # how far a frame sees
        self.backend = config.attention_backend
        self.qkv = Linear(width, 3 * width, bias=config.qkv_bias)
        self.norm_query = nn.LayerNorm(width // self.heads) if config.qk_norm else nn.Identity()
        self.norm_key = nn.LayerNorm(width // self.heads) if config.qk_norm else nn.Identity()
        self.out = Linear(width, width)
        self.position: PositionProjection | None = None
        if config.self_attention_model == "rel_pos":
            self.position = PositionProjection(width)
            self.pos_bias_u = nn.Parameter(torch.zeros(self.heads, width // self.heads))
            self.pos_bias_v = nn.Parameter(torch.zeros(self.heads, width // self.heads))

    def forward(self, x: Tensor, lens: Tensor) -> Tensor:
        """`(B, T, D)`, keys that count `(B,)` to `(B, T, D)`."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(-3)  # (B, T, H, d) each
        q, k = self.norm_query(q), self.norm_key(k)
        attend = self._without_positions if self.position is None else self._with_positions
        return self.out(attend(q, k, v, lens).flatten(-2))

    def _with_positions(self, q: Tensor, k: Tensor, v: Tensor, lens: Tensor) -> Tensor:
        assert self.position is not None
        frames = q.shape[1]
        reach = frames - 1, 0 if self.size[1] == 0 else frames - 1
        table = self.position.table(*reach).unflatten(-1, (self.heads, -1))  # (M, H, d)
        rows = context.intervals("regular", self.size, 0, frames, q.device)
        keys = None if lengths.all_valid(lens, frames) else torch.stack([torch.zeros_like(lens), lens])
        attend = kernels.get("rel_pos_attention", q.device.type, self.backend)
        return attend(q, k, v, table, self.pos_bias_u, self.pos_bias_v, rows=rows, keys=keys, reach=reach)

    def _without_positions(self, q: Tensor, k: Tensor, v: Tensor, lens: Tensor) -> Tensor:
        frames = q.shape[1]
        # A recording without a single frame still has to see something, or its softmax is empty.
        mask = None if lengths.all_valid(lens, frames) else lengths.mask(lens.clamp(min=1), frames)[:, None, None]
        if mask is not None and self.size[1] == 0:
            mask = mask & torch.ones(frames, frames, dtype=torch.bool, device=q.device).tril()
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (B, H, T, d)
        causal = mask is None and self.size[1] == 0
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal).transpose(1, 2)


class Layer(nn.Module):
    """Attention and feed-forward, each on a normalized input, with a residual connection."""

    def __init__(self, config: StackingTransformerConfig) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(config.d_model)
        self.attention = Attention(config)
        self.norm_feed_forward = nn.LayerNorm(config.d_model)
        self.feed_forward = FeedForward(config.d_model, config.d_ff, activation="gelu", dropout=config.drop_rate)
        self.dropout = Dropout(config.drop_rate)

    def forward(self, x: Tensor, lens: Tensor) -> Tensor:
        """`(B, T, D)`, `(B,)` to `(B, T, D)`."""
        x = x + self.dropout(self.attention(self.norm_attention(x), lens))
        return x + self.dropout(self.feed_forward(self.norm_feed_forward(x)))


class StackingTransformer(nn.Module):
    """Stacked frames, positions, a stack of pre-norm Transformer blocks and a final norm.

    Args:
        config: a `StackingTransformerConfig`.
        d_in: bins of the features.
    """

    def __init__(self, config: StackingTransformerConfig, *, d_in: int) -> None:
        super().__init__()
        self.config = config
        self.d_in, self.d_out = d_in, config.feat_out or config.d_model
        self.subsampling = config.subsampling_factor
        self.pre_encode = Stacking(d_in, config.d_model, kind=config.subsampling, factor=config.subsampling_factor)
        rate = config.drop_rate if config.dropout_pre_encoder is None else config.dropout_pre_encoder
        self.dropout = Dropout(rate)
        self.norm_in = nn.LayerNorm(config.d_model) if config.pre_block_norm else nn.Identity()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model)
        self.out = Linear(config.d_model, config.feat_out) if config.feat_out else nn.Identity()

    def forward(self, feats: Tensor, lens: Tensor, *, behind: Behind | None = None) -> tuple[Tensor, Tensor]:
        """`(B, T, F)`, `(B,)` to `(B, T', D)`, `(B,)`; computed in the dtype of the weights. See `Behind`."""
        x, lens = self.pre_encode(feats.to(self.pre_encode.out.weight.dtype), lens)
        x = self.norm_in(self._place(x))
        for number, layer in enumerate(self.layers):
            x = layer(x, lens)
            if behind is not None:
                behind(number, x, lens)
        return self.out(self.norm(x)), lens

    @property
    def depth(self) -> int:
        """Layers, which are numbered from 0."""
        return len(self.layers)

    def with_layers(
        self, feats: Tensor, lens: Tensor, layers: Sequence[int]
    ) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
        """What `forward` gives; and behind each of `layers` `(B, T', D)`, `(B,)`, as if the encoder ended there."""
        enc, counts, found = heard(self, feats, lens, layers)
        return enc, counts, [(self.out(self.norm(x)), valid) for x, valid in found]

    def _place(self, x: Tensor) -> Tensor:
        """Positions, where they are absolute; and what else NeMo's positional encodings do."""
        config = self.config
        if config.self_attention_model == "no_pos":
            return x
        if config.xscaling:
            x = x * math.sqrt(config.d_model)
        if config.self_attention_model == "abs_pos":
            x = x + sinusoids(torch.arange(x.shape[1], device=x.device), config.d_model).to(x.dtype)
        return self.dropout(x)
