"""Strided 2-D convolutions that turn features into fewer, wider frames."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from sonant import lengths
from sonant_encoders.blocks import separable
from sonant_encoders.blocks.linear import Linear

_KERNEL, _STRIDE = 3, 2
# Elements of what the first convolution gives, where no gradients are wanted: on a CPU as much as stays in its cache.
_LARGEST_MAP = {"cpu": 2**21, "cuda": 2**28}
_PROJECTED = 512  # frames

Size = TypeVar("Size", int, Tensor)


class Subsampling(nn.Module):
    """A stack of stride-2 convolutions over time and frequency, then a projection.

    Args:
        features: bins of the input.
        width: of the output.
        kind: `striding` has full convolutions (Dong et al., 2018), `dw_striding` depthwise separable ones after the first
            (Rekesh et al., 2023).
        factor: how many times fewer frames, a power of two.
        channels: of the convolutions.
        causal: pad on the left only, so that no frame depends on later ones.
    """

    def __init__(
        self, features: int, width: int, *, kind: Literal["striding", "dw_striding"], factor: int, channels: int, causal: bool
    ) -> None:
        super().__init__()
        self.causal = causal
        self.factor = factor
        self.channels = channels
        self.separable = kind == "dw_striding"
        self.left, self.right = (_KERNEL - 1, _STRIDE - 1) if causal else (1, 1)
        layers: list[nn.Module] = []
        for stage in range(int(math.log2(factor))):
            separable = kind == "dw_striding" and stage > 0
            groups = channels if separable else 1
            padding = 0 if causal else 1
            layers.append(nn.Conv2d(channels if stage else 1, channels, _KERNEL, _STRIDE, padding, groups=groups))
            if separable:
                layers.append(nn.Conv2d(channels, channels, 1))
            layers.append(nn.ReLU(inplace=True))
        self.conv = nn.Sequential(*layers)
        bins = features
        for _ in range(int(math.log2(factor))):
            bins = self._shorter(bins, self.left)
        self.out = Linear(channels * bins, width)

    @property
    def context(self) -> int:
        """How many earlier input frames the first new output frame of a stream depends on."""
        return 2 * self.factor - 2

    def length(self, size: Size, *, start: bool = True) -> Size:
        """How many frames come out of so many, or of each of so many; at most 0 where there are too few."""
        for _ in range(int(math.log2(self.factor))):
            size = self._shorter(size, self.left if start else 0)
        return size

    def _shorter(self, size: Size, left: int) -> Size:
        return (size + left + self.right - _KERNEL) // _STRIDE + 1

    def forward(self, feats: Tensor, lens: Tensor, *, start: bool = True) -> tuple[Tensor, Tensor]:
        """`(B, T, F)`, `(B,)` to `(B, T', D)`, `(B,)`.

        `start=False` says that `feats` continues a stream and begins with the `context` frames before the first new one.
        """
        left = self.left if start else 0
        least = 1 if start else self.factor  # fewer frames give none, and the kernels want one whole window
        if feats.shape[1] < least:
            feats = functional.pad(feats, (0, 0, 0, least - feats.shape[1]))
        shorter = self.length(lens, start=start)
        if self.separable and not self.causal and start and separable.wanted(feats):
            x = self._train(feats, lens)
        elif feats.device.type == "cpu" and not torch.is_grad_enabled() and feats.shape[0] > 1:
            # One recording at a time, cut to its length: what the first convolution gives fits the cache and needs no mask.
            sizes = lens.clamp(min=least).tolist()
            pieces = [self._pieces(feats[i : i + 1, :n], lens[i : i + 1], left) for i, n in enumerate(sizes)]
            x = self._project(itertools.chain.from_iterable(pieces))
            counts = [self.length(n, start=start) for n in sizes]
            x = nn.utils.rnn.pad_sequence(x[0].split(counts), batch_first=True)
        else:
            x = self._project(self._pieces(feats, lens, left))
        return x, shorter.clamp(min=0)

    def _train(self, feats: Tensor, lens: Tensor) -> Tensor:
        """`forward` the faster way for training on a CPU."""
        x = separable.stack(feats, lens, [layer for layer in self.conv if isinstance(layer, nn.Conv2d)])  # (B, T', F', C)
        if type(self.out) is not Linear:
            return self.out(x.transpose(2, 3).flatten(2))
        # The weights are fewer than the frames: they are what changes the order.
        weight = self.out.weight.unflatten(1, (self.channels, -1)).transpose(1, 2).flatten(1)
        return functional.linear(x.flatten(2), weight, self.out.bias)

    def _pieces(self, feats: Tensor, lens: Tensor, left: int) -> Iterator[Tensor]:
        """`(B, T, F)` to `(B, T', C F')`, long recordings piece by piece: the first convolution's map is an encoder's largest."""
        batch, frames, bins = feats.shape
        largest = _LARGEST_MAP.get(feats.device.type, 2**24)
        piece = max(16, largest * _STRIDE**2 // (batch * self.channels * bins * self.factor))
        if torch.is_grad_enabled() or frames <= piece * self.factor or left != self.left:
            yield self._convolve(feats, lens, left)
            return
        total = frames
        for _ in range(int(math.log2(self.factor))):
            total = self._shorter(total, left)
        for first in range(0, total, piece):
            early = min(first, 2)  # the frames that a cut before them would reach
            begin = (first - early) * self.factor
            x = self._convolve(feats[:, begin : (first + piece) * self.factor], lens - begin, left)
            yield x[:, early : early + piece]

    def _project(self, pieces: Iterable[Tensor]) -> Tensor:
        """Pieces `(B, T', C F')` to all of them, `(B, T', D)`; so many together that reading the weights is worthwhile."""
        outputs, waiting, frames = [], [], 0
        for piece in pieces:
            waiting.append(piece)
            frames += piece.shape[1]
            if frames >= _PROJECTED:
                outputs.append(self.out(torch.cat(waiting, dim=1)))
                waiting, frames = [], 0
        if waiting:
            outputs.append(self.out(waiting[0] if len(waiting) == 1 else torch.cat(waiting, dim=1)))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)

    def _convolve(self, feats: Tensor, lens: Tensor, left: int) -> Tensor:
        """`(B, T, F)` to `(B, T', C F')`."""
        x = feats.unsqueeze(1)  # (B, 1, T, F)
        for layer in self.conv:
            if isinstance(layer, nn.Conv2d):
                if layer.stride != (1, 1):
                    x = _silence(x, lens)
                    if self.causal:
                        x = functional.pad(x, (self.left, self.right, left, self.right))
                    lens = self._shorter(lens, left)
                x = _convolution(layer, x)
            else:
                x = layer(x)
        return _silence(x, lens).transpose(1, 2).flatten(2)  # (B, C, T', F') -> (B, T', C F')


def _convolution(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """The layer; on a CPU with channels innermost, which its library computes twice as fast."""
    if x.device.type != "cpu":
        return layer(x)
    weight = layer.weight.contiguous(memory_format=torch.channels_last)
    return functional.conv2d(x, weight, layer.bias, layer.stride, layer.padding, groups=layer.groups)


def _silence(x: Tensor, lens: Tensor) -> Tensor:
    """Zero the frames at and beyond each length: what a kernel reaches into there must not matter."""
    if lengths.all_valid(lens, x.shape[2]):
        return x
    return x.masked_fill(~lengths.mask(lens, x.shape[2])[:, None, :, None], 0.0)
