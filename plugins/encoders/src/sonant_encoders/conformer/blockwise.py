"""Layers whose attention reaches a limited way, computed on a long recording some frames after others.

A frame depends on those within reach of the attention and of the convolution alone. A block of frames is computed with so many
more on either side, which are then dropped, so that what a layer needs in between does not grow with the recording.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sonant import lengths
from sonant_encoders.blocks import context
from sonant_encoders.blocks.attention import Visibility

BLOCK = 4096
"""Frames computed at once, of all recordings of a batch together, and beside those on either side."""


class Blockwise:
    """Runs the layers of an encoder.

    Args:
        style: of the attention's context.
        size: that context, limited on either side.
        convolution: how far a layer's convolution reaches to the left and to the right.
        gap: see `Visibility`.
    """

    def __init__(self, style: context.Style, size: Sequence[int], convolution: tuple[int, int], gap: tuple[int, int]) -> None:
        self.style, self.size, self.gap = style, size, gap
        self.reach = context.reach(style, size)
        self.left, self.right = self.reach[0] + convolution[0], self.reach[1] + convolution[1]

    def frames(self, batch: int) -> int:
        """How many frames of each of `batch` recordings are computed at once: not less than are computed to be dropped."""
        return max(BLOCK // batch, self.left + self.right)

    def __call__(
        self, layers: nn.ModuleList, x: Tensor, lens: Tensor, progress: Callable[[float], object] | None = None
    ) -> Tensor:
        """`(B, T, D)`, `(B,)` through all layers, written over `x`. `progress` is called with the part that is done."""
        for depth, layer in enumerate(layers):
            self._run(layer, x, lens)
            if progress is not None:
                progress((depth + 1) / len(layers))
        return x

    def _run(self, layer: nn.Module, x: Tensor, lens: Tensor) -> None:
        total, size = x.shape[1], self.frames(len(x))
        before = x[:, :0]  # what the frames before the block were, which are overwritten by now
        for first in range(0, total, size):
            last = min(first + size, total)
            piece = torch.cat([before, x[:, first : last + self.right]], dim=1)
            low = first - before.shape[1]
            before = piece[:, max(0, last - low - self.left) : last - low]
            out = layer(piece, *self._seen(low, piece.shape[1], lens))[0]
            x[:, first:last] = out[:, first - low : last - low]

    def _seen(self, first: int, count: int, lens: Tensor) -> tuple[Visibility, Tensor | None]:
        """What the frames `[first, first + count)` see of each other, and which of them are valid (None: all)."""
        rows = context.intervals(self.style, self.size, first, count, lens.device)
        assert rows is not None
        valid = (lens - first).clamp(0, count)
        full = lengths.all_valid(valid, count)
        keys = None if full else torch.stack([torch.zeros_like(valid), valid])
        return Visibility(rows - first, keys, self.reach, self.gap), None if full else lengths.mask(valid, count)
