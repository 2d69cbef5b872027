"""One block of the Conformer."""

from __future__ import annotations

from attrs import frozen
from torch import Tensor, nn

from sonant_encoders.blocks.adapter import LinearAdapter
from sonant_encoders.blocks.attention import KeyCache, RelPosAttention, Visibility
from sonant_encoders.blocks.convolution import ConvolutionModule
from sonant_encoders.blocks.dropout import Dropout
from sonant_encoders.blocks.feed_forward import FeedForward
from sonant_encoders.blocks.global_tokens import GlobalTokens
from sonant_encoders.conformer.config import ConformerConfig, LinearAdapterConfig


@frozen
class LayerCache:
    """What a block remembers of streams: keys and values, and inputs `(B, left, D)` of its convolution."""

    attention: KeyCache
    convolution: Tensor


class ConformerLayer(nn.Module):
    """Half feed-forward, attention, convolution, half feed-forward, each on a normalized input; a final norm, and adapters."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        width, hidden = config.d_model, config.d_model * config.ff_expansion_factor
        left, right = config.conv_context
        self.norm_feed_forward1 = nn.LayerNorm(width)
        self.feed_forward1 = FeedForward(width, hidden, dropout=config.dropout, bias=config.use_bias)
        self.norm_attention = nn.LayerNorm(width)
        self.attention = RelPosAttention(
            width,
            config.n_heads,
            bias=config.use_bias,
            dropout=config.dropout,
            dropout_weights=config.dropout_att,
            dropout_positions=config.dropout_emb,
            backend=config.attention_backend,
            global_tokens=_global_tokens(config),
        )
        self.norm_convolution = nn.LayerNorm(width)
        self.convolution = ConvolutionModule(
            width, config.conv_kernel_size, left, right, norm=config.conv_norm_type, bias=config.use_bias
        )
        self.norm_feed_forward2 = nn.LayerNorm(width)
        self.feed_forward2 = FeedForward(width, hidden, dropout=config.dropout, bias=config.use_bias)
        self.norm_out = nn.LayerNorm(width)
        self.dropout = Dropout(config.dropout)
        self.adapters = nn.ModuleDict({name: _adapter(config, adapter) for name, adapter in config.adapters.items()})
        self.adapting = tuple(name for name, adapter in config.adapters.items() if adapter.enabled)

    def forward(
        self, x: Tensor, visibility: Visibility, mask: Tensor | None = None, cache: LayerCache | None = None
    ) -> tuple[Tensor, LayerCache]:
        """`(B, T, D)`, validity `(B, T)` (None: all valid) to `(B, T, D)` and what a stream has to remember."""
        x = x.add(self.dropout(self.feed_forward1(self.norm_feed_forward1(x))), alpha=0.5)
        attended, keys = self.attention(self.norm_attention(x), visibility, None if cache is None else cache.attention)
        x = x + attended
        convolved, frames = self.convolution(self.norm_convolution(x), mask, None if cache is None else cache.convolution)
        x = x + self.dropout(convolved)
        x = x.add(self.dropout(self.feed_forward2(self.norm_feed_forward2(x))), alpha=0.5)
        x = self.norm_out(x)
        for name in self.adapting:
            x = self.adapters[name](x)
        return x, LayerCache(keys, frames)


def _adapter(config: ConformerConfig, adapter: LinearAdapterConfig) -> LinearAdapter:
    norm, dropout = adapter.norm_position, adapter.dropout
    return LinearAdapter(config.d_model, adapter.dim, activation=adapter.activation, norm=norm, dropout=dropout)


def _global_tokens(config: ConformerConfig) -> GlobalTokens | None:
    if config.global_tokens == 0:
        return None
    return GlobalTokens(
        config.d_model,
        config.n_heads,
        count=config.global_tokens,
        spacing=config.global_tokens_spacing,
        separate=config.global_attn_separate,
        bias=config.use_bias,
    )
