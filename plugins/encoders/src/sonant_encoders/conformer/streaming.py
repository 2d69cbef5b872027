"""What Conformer streams remember between steps, and how streams at different positions share a batch.

Each stream has a state of its own. For a step the caches are stacked flush with the new frames, so that those of a stream that
has just begun have padding before them, which no query sees.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import frozen
from torch import Tensor

from sonant_encoders.blocks.attention import KeyCache
from sonant_encoders.conformer.layer import LayerCache


@frozen
class StreamState:
    """What one stream remembers between steps.

    `pending` are features `(P, F)` that no final frame has come out of yet, with the context of the next ones before them;
    `frames` counts the encoder frames given out. `cache` holds the keys and values `(L, K, H, d)` and convolution inputs
    `(L, left, D)` of all layers; none before the first frame.
    """

    pending: Tensor
    frames: int = 0
    cache: LayerCache | None = None

    @property
    def keys(self) -> int:
        """How many earlier frames can still be attended to."""
        return 0 if self.cache is None else self.cache.attention.k.shape[1]


def stack(states: Sequence[StreamState]) -> list[LayerCache] | None:
    """The caches of several streams, a batch for each layer, keys flush right; None where no stream has any."""
    known = next((state.cache for state in states if state.cache is not None), None)
    if known is None:
        return None
    longest = max(state.keys for state in states)
    layers, _, *heads = known.attention.k.shape
    keys, values = (known.attention.k.new_zeros(layers, len(states), longest, *heads) for _ in range(2))
    frames = known.convolution.new_zeros(layers, len(states), *known.convolution.shape[1:])
    for row, state in enumerate(states):
        if state.cache is not None:
            keys[:, row, longest - state.keys :] = state.cache.attention.k
            values[:, row, longest - state.keys :] = state.cache.attention.v
            frames[:, row] = state.cache.convolution
    return [LayerCache(KeyCache(k, v), x) for k, v, x in zip(keys, values, frames, strict=True)]


def split(caches: Sequence[LayerCache], states: Sequence[StreamState], sizes: Sequence[int], left: int) -> list[LayerCache]:
    """What each stream keeps of the `caches` that a step returned, in which it had `sizes` new frames.

    `left` is how many keys are seen from behind them, -1 for all. Each stream gets tensors of its own, so that none keeps those
    of its neighbours alive.
    """
    keys, values = (torch.stack([getattr(cache.attention, name) for cache in caches]) for name in ("k", "v"))
    frames = torch.stack([cache.convolution for cache in caches])  # (L, B, left + T, D), padding behind
    longest = max(state.keys for state in states)
    context = frames.shape[2] - (keys.shape[2] - longest)
    kept = []
    for row, (state, size) in enumerate(zip(states, sizes, strict=True)):
        first, stop = longest - state.keys, longest + size
        if left >= 0:
            first = max(first, stop - left)
        attention = KeyCache(keys[:, row, first:stop].clone(), values[:, row, first:stop].clone())
        kept.append(LayerCache(attention, frames[:, row, size : size + context].clone()))
    return kept
