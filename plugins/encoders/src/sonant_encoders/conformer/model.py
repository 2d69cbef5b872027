"""Conformer and FastConformer encoders, offline and streaming."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from attrs import frozen
from torch import Tensor, nn

from sonant import lengths
from sonant_encoders.blocks import context
from sonant_encoders.blocks.attention import KeyCache, Visibility
from sonant_encoders.blocks.subsampling import Subsampling
from sonant_encoders.conformer.config import ConformerConfig
from sonant_encoders.conformer.layer import ConformerLayer, LayerCache


@frozen
class StreamState:
    """What a batch of streams remembers between steps.

    `pending` are features `(B, P, F)` that no final frame has come out of yet, with the context of the next ones before them;
    `frames` counts the encoder frames given out; `caches` has one entry a layer, none before the first frame.
    """

    pending: Tensor
    frames: int = 0
    caches: tuple[LayerCache, ...] = ()


class Conformer(nn.Module):
    """Subsampling, then a stack of Conformer blocks over relative positions.

    With causal subsampling, causal convolutions and a right context that is limited, it also streams: `init_state` and `step`
    give, piece by piece, what `forward` gives for the whole.

    Args:
        config: a `ConformerConfig` or `FastConformerConfig`.
        d_in: bins of the features.
    """

    def __init__(self, config: ConformerConfig, *, d_in: int) -> None:
        super().__init__()
        self.config = config
        self.d_in = d_in
        self.d_out = config.feat_out or config.d_model
        self.subsampling = config.subsampling_factor
        self.pre_encode = Subsampling(
            d_in,
            config.d_model,
            kind=config.subsampling,
            factor=config.subsampling_factor,
            channels=config.subsampling_conv_channels or config.d_model,
            causal=config.causal_downsampling,
        )
        self.scale = math.sqrt(config.d_model) if config.xscaling else 1.0
        self.dropout = nn.Dropout(config.dropout_pre_encoder)
        self.layers = nn.ModuleList(ConformerLayer(config) for _ in range(config.n_layers))
        if not config.untie_biases:
            _share_biases(self)
            # Weights that are assigned come one by one.
            self.register_load_state_dict_post_hook(_share_biases)  # type: ignore[no-untyped-call]
        self.out = nn.Linear(config.d_model, config.feat_out) if config.feat_out else nn.Identity()

    def forward(self, feats: Tensor, lens: Tensor, *, att_context_size: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
        """`(B, T, F)`, `(B,)` to `(B, T', D)`, `(B,)`.

        Args:
            feats: features; computed in the dtype of the weights.
            lens: valid frames of each recording.
            att_context_size: one of the config's contexts; by default its first, and in training one drawn at random. If
                `takes_windows`, any [left, right]: for recordings too long to attend to all of (`rel_pos_local_attn` in NeMo).

        Raises:
            ValueError: this encoder was not trained with that context.
        """
        size = self._context(att_context_size)
        x, lens = self._embed(feats, lens, start=True)
        frames = x.shape[1]
        full = lengths.all_valid(lens, frames)
        rows = context.intervals(self.config.att_context_style, size, 0, frames, x.device)
        keys = None if full else torch.stack([torch.zeros_like(lens), lens])
        visibility = self._visibility(size, rows, keys)
        mask = None if full else lengths.mask(lens, frames)
        for depth, layer in enumerate(self.layers):
            changed, _ = layer(x, visibility, mask)
            rate = self._skip_rate(depth)
            x = changed if rate == 0 else x + (changed - x) * ((torch.rand(()) >= rate) / (1 - rate))
        return self.out(x), lens

    def _embed(self, feats: Tensor, lens: Tensor, *, start: bool) -> tuple[Tensor, Tensor]:
        x, lens = self.pre_encode(feats.to(self.pre_encode.out.weight.dtype), lens, start=start)
        return self.dropout(x * self.scale if self.scale != 1.0 else x), lens

    def _context(self, chosen: Sequence[int] | None) -> Sequence[int]:
        known = self.config.contexts
        if chosen is not None:
            anything = self.takes_windows or self.config.att_context_style == "chunked_limited_with_rc"
            if not anything and list(chosen) not in known:
                raise ValueError(f"att_context_size {list(chosen)} is not one this encoder was trained with: {known}")
            context.check(self.config.att_context_style, chosen)
            return chosen
        if self.training and len(known) > 1:
            odds = self.config.att_context_probs or [1.0] * len(known)
            return known[int(torch.multinomial(torch.tensor(odds), 1))]
        return known[0]

    def _visibility(self, size: Sequence[int], rows: Tensor | None, keys: Tensor | None) -> Visibility:
        return Visibility(rows, keys, context.reach(self.config.att_context_style, size), self.config.window_gap)

    @property
    def takes_windows(self) -> bool:
        """Whether attention sees everything, and may be limited to any `att_context_size` [left, right] in `forward`."""
        return self.config.att_context_style == "regular" and [-1, -1] in self.config.contexts

    def _skip_rate(self, depth: int) -> float:
        """How often stochastic depth (Huang et al., 2016) skips a layer: in training only, and the more the deeper it lies."""
        config = self.config
        first = config.stochastic_depth_start_layer
        if not self.training or depth < first:
            return 0.0
        share = (depth - first + 1) / (config.n_layers - first) if config.stochastic_depth_mode == "linear" else 1.0
        return config.stochastic_depth_drop_prob * share

    @property
    def streams(self) -> bool:
        """Whether frames come out final before the recording ends."""
        config = self.config
        causal = config.causal_downsampling and config.conv_context[1] == 0 and not config.conv_norm_type.startswith("group_norm")
        return causal and self._chunk(config.contexts[0]) > 0 and not config.global_tokens

    def _chunk(self, size: Sequence[int]) -> int:
        """How many frames become final together; 0 where none does before the end."""
        if self.config.att_context_style == "chunked_limited":
            return size[1] + 1
        return 1 if self.config.att_context_style == "regular" and size[1] == 0 else 0

    def init_state(self, batch: int) -> StreamState:
        """The state before the first frame of `batch` streams.

        Raises:
            ValueError: this configuration does not stream.
        """
        if not self.streams:
            raise ValueError(
                "this encoder does not stream: that needs causal_downsampling: true, conv_context_size: causal, a conv_norm_type "
                "other than group_norm, and att_context_style chunked_limited (or regular with a right context of 0, without "
                "global_tokens)"
            )
        weight = self.pre_encode.out.weight
        return StreamState(torch.zeros(batch, 0, self.d_in, dtype=weight.dtype, device=weight.device))

    def step(
        self,
        feats: Tensor,
        lens: Tensor,
        state: StreamState,
        *,
        last: bool = False,
        att_context_size: Sequence[int] | None = None,
    ) -> tuple[Tensor, Tensor, StreamState]:
        """Feed `(B, T, F)` more features; returns the frames `(B, T', D)` now final, their number `(B,)`, and the next state.

        All streams of the batch advance together; only in the `last` piece may they be valid to different lengths.

        Raises:
            ValueError: this context does not stream, or is none of the config's.
        """
        size = self._context(att_context_size)
        chunk = self._chunk(size)
        if chunk == 0:
            raise ValueError(f"att_context_size {list(size)} looks too far ahead to stream; there are {self.config.contexts}")
        feats = torch.cat([state.pending, feats.to(state.pending.dtype)], dim=1)
        lens = lens + state.pending.shape[1]
        ready = self._ready(feats.shape[1], state, chunk)
        if not last and ready == 0:
            empty = feats.new_zeros(feats.shape[0], 0, self.d_out)
            return empty, torch.zeros_like(lens), StreamState(feats, state.frames, state.caches)
        x, valid = self._embed(feats, lens, start=state.frames == 0)
        if not last:
            x, valid = x[:, :ready], valid.clamp(max=ready)
        x, caches = self._advance(x, valid, state, size)
        keep = 0 if state.frames == 0 else self.pre_encode.context
        # The context of the next frame begins `context` features before its own position.
        begin = max(0, self.subsampling * ready + keep - self.pre_encode.context) if not last else feats.shape[1]
        return self.out(x), valid, StreamState(feats[:, begin:], state.frames + x.shape[1], caches)

    def _ready(self, available: int, state: StreamState, chunk: int) -> int:
        """How many encoder frames, in whole chunks, so many features (pending ones included) make final."""
        ahead = available - (self.pre_encode.context if state.frames else 0)
        frames = (ahead - 1) // self.subsampling + 1 if ahead > 0 else 0
        # The second frame's context begins before the recording; from the third on it lies within.
        return 0 if state.frames == 0 and frames < 2 else frames // chunk * chunk

    def _advance(
        self, x: Tensor, valid: Tensor, state: StreamState, size: Sequence[int]
    ) -> tuple[Tensor, tuple[LayerCache, ...]]:
        known = state.caches[0].attention.k.shape[1] if state.caches else 0
        rows = context.intervals(self.config.att_context_style, size, state.frames, x.shape[1], x.device)
        if rows is not None:
            rows = rows - (state.frames - known)  # the first cached key is key 0
        keys = torch.stack([torch.zeros_like(valid), known + valid])
        visibility = self._visibility(size, rows, keys)
        mask = lengths.mask(valid, x.shape[1])
        caches = []
        for depth, layer in enumerate(self.layers):
            x, cache = layer(x, visibility, mask, state.caches[depth] if state.caches else None)
            caches.append(_trimmed(cache, size[0]))
        return x, tuple(caches)


def _share_biases(encoder: nn.Module, *_: object) -> None:
    first, *others = (layer.attention for layer in encoder.layers)  # type: ignore[union-attr]
    for attention in others:
        attention.pos_bias_u, attention.pos_bias_v = first.pos_bias_u, first.pos_bias_v


def _trimmed(cache: LayerCache, left: int) -> LayerCache:
    if left < 0:
        return cache
    first = max(0, cache.attention.k.shape[1] - left)
    return LayerCache(KeyCache(cache.attention.k[:, first:], cache.attention.v[:, first:]), cache.convolution)
