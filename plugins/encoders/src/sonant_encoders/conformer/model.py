"""Conformer and FastConformer encoders, offline and streaming."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from attrs import evolve
from torch import Tensor, nn

from sonant import lengths
from sonant_encoders.blocks import context
from sonant_encoders.blocks.attention import Visibility
from sonant_encoders.blocks.dropout import Dropout
from sonant_encoders.blocks.layered import Behind, heard
from sonant_encoders.blocks.linear import Linear
from sonant_encoders.blocks.subsampling import Subsampling
from sonant_encoders.conformer import streaming
from sonant_encoders.conformer.blockwise import Blockwise
from sonant_encoders.conformer.config import ConformerConfig
from sonant_encoders.conformer.layer import ConformerLayer, LayerCache
from sonant_encoders.conformer.streaming import StreamState

_LEAST_MEMORY = 2**27  # bytes, for pieces of the subsampling
_LARGEST_BIAS = 2**25  # elements that kernels of the attention make at once


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
        self.dropout = Dropout(config.dropout_pre_encoder)
        self.layers = nn.ModuleList(ConformerLayer(config) for _ in range(config.n_layers))
        if not config.untie_biases:
            _share_biases(self)
            # Weights that are assigned come one by one.
            self.register_load_state_dict_post_hook(_share_biases)  # type: ignore[no-untyped-call]
        self.out = Linear(config.d_model, config.feat_out) if config.feat_out else nn.Identity()

    def forward(
        self,
        feats: Tensor,
        lens: Tensor,
        *,
        att_context_size: Sequence[int] | None = None,
        progress: Callable[[float], object] | None = None,
        behind: Behind | None = None,
    ) -> tuple[Tensor, Tensor]:
        """`(B, T, F)`, `(B,)` to `(B, T', D)`, `(B,)`.

        Args:
            feats: features; computed in the dtype of the weights.
            lens: valid frames of each recording.
            att_context_size: one of the config's contexts; by default its first, and in training one drawn at random. If
                `takes_windows`, any [left, right]: for recordings too long to attend to all of (`rel_pos_local_attn` in NeMo).
            progress: called behind each layer with the part that is done.
            behind: called behind each layer with its number, what comes out of it and the valid frames.

        Raises:
            ValueError: this encoder was not trained with that context.
        """
        size = self._context(att_context_size)
        x, lens = self._embed(feats, lens, start=True)
        frames = x.shape[1]
        blocks = None if self.training or torch.is_grad_enabled() or behind is not None else self._blocks(size)
        if blocks is not None and frames > 2 * blocks.frames(len(x)):
            return self.out(blocks(self.layers, x, lens, progress)), lens
        full = lengths.all_valid(lens, frames)
        rows = context.intervals(self.config.att_context_style, size, 0, frames, x.device)
        keys = None if full else torch.stack([torch.zeros_like(lens), lens])
        visibility = self._visibility(size, rows, keys)
        mask = None if full else lengths.mask(lens, frames)
        for depth, layer in enumerate(self.layers):
            changed = layer(x, visibility, mask)[0]
            rate = self._skip_rate(depth)
            x = changed if rate == 0 else x + (changed - x) * ((torch.rand(()) >= rate) / (1 - rate))
            if progress is not None:
                progress((depth + 1) / len(self.layers))
            if behind is not None:
                behind(depth, x, lens)
        return self.out(x), lens

    @property
    def depth(self) -> int:
        """Layers, which are numbered from 0."""
        return len(self.layers)

    def with_layers(
        self, feats: Tensor, lens: Tensor, layers: Sequence[int]
    ) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
        """What `forward` gives; and behind each of `layers` `(B, T', D)`, `(B,)`, as if the encoder ended there."""
        enc, counts, found = heard(self, feats, lens, layers)
        return enc, counts, [(self.out(x), valid) for x, valid in found]

    def _blocks(self, size: Sequence[int]) -> Blockwise | None:
        """How layers are computed block by block; None where a frame depends on all others."""
        config = self.config
        whole = min(context.reach(config.att_context_style, size)) < 0 or config.global_tokens > 0
        if whole or config.conv_norm_type.startswith("group_norm"):
            return None
        return Blockwise(config.att_context_style, size, config.conv_context, config.window_gap)

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

    @property
    def attends_to_all(self) -> bool:
        """Whether, by the config's first context, work grows with the square of the length."""
        return self._blocks(self.config.contexts[0]) is None

    def memory(self, frames: int, *, att_context_size: Sequence[int] | None = None) -> int:
        """About how many bytes `forward` takes at most for one recording of so many features, beside weights and features."""
        size, width = self.pre_encode.out.weight.element_size(), self.config.d_model
        count, blocks = max(1, self.pre_encode.length(frames)), self._blocks(att_context_size or self.config.contexts[0])
        once = 3 * count * width * size  # what comes out of the subsampling, its pieces, and scaled
        reach = count
        if blocks is not None:
            reach = blocks.left + blocks.right
            count = min(count, blocks.frames(1) + reach)
        # Queries, keys, values and their like, or what is within a feed-forward module; positions, at first in float32.
        layer = count * width * ((8 + 2 * self.config.ff_expansion_factor) * size + 20)
        bias = 3 * size * min(_LARGEST_BIAS, self.config.n_heads * reach**2)
        return once + layer + bias + _LEAST_MEMORY

    def _skip_rate(self, depth: int) -> float:
        """How often stochastic depth (Huang et al., 2016) skips a layer: in training only, and the more the deeper it lies."""
        config = self.config
        first = config.stochastic_depth_start_layer
        if not self.training or depth < first:
            return 0.0
        share = (depth - first + 1) / (config.n_layers - first) if config.stochastic_depth_mode == "linear" else 1.0
        return config.stochastic_depth_drop_prob * share

    @property
    def contexts(self) -> list[list[int]]:
        """What `att_context_size` may be, `[left, right]` in frames each; the first is the default."""
        return self.config.contexts

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

    def init_state(self) -> StreamState:
        """The state of a stream before its first frame.

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
        return StreamState(weight.new_zeros(0, self.d_in))

    def chunk(self, *, att_context_size: Sequence[int] | None = None) -> int:
        """How many features there are from those that make frames final to those that make the next final.

        Raises:
            ValueError: as `step`.
        """
        return self.subsampling * self._chunks(att_context_size)[1]

    def needs(self, state: StreamState, *, att_context_size: Sequence[int] | None = None) -> int:
        """How many more features make further frames final, at least 1.

        Raises:
            ValueError: as `step`.
        """
        _, chunk = self._chunks(att_context_size)
        frames = chunk if state.frames else max(chunk, 2)
        whole = self.subsampling * (frames - 1) + 1 + (self.pre_encode.context if state.frames else 0)
        return max(1, whole - len(state.pending))

    def step(
        self,
        feats: Tensor,
        lens: Tensor,
        states: Sequence[StreamState],
        *,
        last: Sequence[bool],
        att_context_size: Sequence[int] | None = None,
    ) -> tuple[Tensor, Tensor, list[StreamState]]:
        """Feed `(B, T, F)` more features, `lens` of them valid, to a stream each; returns the frames that are final by now,
        `(B, T', D)`, `(B,)`, and the next states.

        Another context than in the step before is taken up where the new frames begin. `last` says which streams end here.

        Raises:
            ValueError: this context does not stream, or is none of the config's.
        """
        size, chunk = self._chunks(att_context_size)
        dtype = self.pre_encode.out.weight.dtype
        rows = [
            torch.cat([state.pending, row[:valid].to(dtype)])
            for state, row, valid in zip(states, feats, lens.tolist(), strict=True)
        ]
        counts = [
            self._final(len(row), state.frames == 0, chunk, ends) for row, state, ends in zip(rows, states, last, strict=True)
        ]
        following = [evolve(state, pending=row) for state, row in zip(states, rows, strict=True)]
        out = feats.new_zeros(len(rows), max(counts, default=0), self.d_out, dtype=dtype)
        going = [n for n, count in enumerate(counts) if count]
        if going:
            final, caches = self._advance([rows[n] for n in going], [states[n] for n in going], [counts[n] for n in going], size)
            out[going] = final
            for n, cache in zip(going, caches, strict=True):
                # The context of the next frame begins `context` features before its own position.
                begin = self.subsampling * counts[n] - (self.pre_encode.context if states[n].frames == 0 else 0)
                pending = rows[n][len(rows[n]) if last[n] else begin :].clone()
                following[n] = StreamState(pending, states[n].frames + counts[n], cache)
        return out, torch.tensor(counts, dtype=torch.int64, device=lens.device), following

    def _chunks(self, chosen: Sequence[int] | None) -> tuple[Sequence[int], int]:
        """The context, and how many frames become final together in it."""
        size = self._context(chosen)
        chunk = self._chunk(size)
        if chunk == 0:
            raise ValueError(f"att_context_size {list(size)} looks too far ahead to stream; there are {self.config.contexts}")
        return size, chunk

    def _final(self, available: int, start: bool, chunk: int, last: bool) -> int:
        """How many encoder frames so many features (pending ones included) make final: whole chunks, or all in the end."""
        if last:
            return max(0, self.pre_encode.length(available, start=start))
        ahead = available - (0 if start else self.pre_encode.context)
        frames = (ahead - 1) // self.subsampling + 1 if ahead > 0 else 0
        # The second frame's context begins before the recording; from the third on it lies within.
        return 0 if start and frames < 2 else frames // chunk * chunk

    def _advance(
        self, rows: Sequence[Tensor], states: Sequence[StreamState], counts: Sequence[int], size: Sequence[int]
    ) -> tuple[Tensor, list[LayerCache]]:
        """The first `counts` frames `(B, T', D)` that come out of `rows` `(P, F)` each, and what their streams remember."""
        x = nn.utils.rnn.pad_sequence(
            [frames[:n] for frames, n in zip(self._embed_each(rows, states), counts, strict=True)], True
        )
        known, valid = max(state.keys for state in states), torch.tensor(counts, device=x.device)
        # Every stream stands at the beginning of a chunk, and its first cached key is key 0 or lies behind padding.
        seen = context.intervals(self.config.att_context_style, size, 0, x.shape[1], x.device)
        unknown = torch.tensor([known - state.keys for state in states], device=x.device)
        visibility = self._visibility(size, None if seen is None else seen + known, torch.stack([unknown, known + valid]))
        mask = None if min(counts) == x.shape[1] else lengths.mask(valid, x.shape[1])
        before = streaming.stack(states)
        after = []
        for depth, layer in enumerate(self.layers):
            x, cache = layer(x, visibility, mask, None if before is None else before[depth])
            after.append(cache)
        return self.out(x), streaming.split(after, states, counts, size[0])

    def _embed_each(self, rows: Sequence[Tensor], states: Sequence[StreamState]) -> list[Tensor]:
        """Features to frames before the first layer; streams that begin and those that go on apart, for their edges differ."""
        found: dict[int, Tensor] = {}
        for start in (True, False):
            chosen = [n for n, state in enumerate(states) if (state.frames == 0) == start]
            if chosen:
                feats = nn.utils.rnn.pad_sequence([rows[n] for n in chosen], batch_first=True)
                sizes = torch.tensor([len(rows[n]) for n in chosen], device=feats.device)
                found |= zip(chosen, self._embed(feats, sizes, start=start)[0], strict=True)
        return [found[n] for n in range(len(rows))]


def _share_biases(encoder: nn.Module, *_: object) -> None:
    first, *others = (layer.attention for layer in encoder.layers)  # type: ignore[union-attr]
    for attention in others:
        attention.pos_bias_u, attention.pos_bias_v = first.pos_bias_u, first.pos_bias_v
