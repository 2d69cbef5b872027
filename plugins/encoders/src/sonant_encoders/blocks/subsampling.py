"""Strided 2-D convolutions that turn features into fewer, wider frames."""

from __future__ import annotations

import math
from typing import Literal, TypeVar

from torch import Tensor, nn
from torch.nn import functional

from sonant import lengths

_KERNEL, _STRIDE = 3, 2

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
        self.left, self.right = (_KERNEL - 1, _STRIDE - 1) if causal else (1, 1)
        layers: list[nn.Module] = []
        for stage in range(int(math.log2(factor))):
            separable = kind == "dw_striding" and stage > 0
            groups = channels if separable else 1
            layers.append(nn.Conv2d(channels if stage else 1, channels, _KERNEL, _STRIDE, groups=groups))
            if separable:
                layers.append(nn.Conv2d(channels, channels, 1))
            layers.append(nn.ReLU())
        self.conv = nn.Sequential(*layers)
        bins = features
        for _ in range(int(math.log2(factor))):
            bins = self._shorter(bins, self.left)
        self.out = nn.Linear(channels * bins, width)

    @property
    def context(self) -> int:
        """How many earlier input frames the first new output frame of a stream depends on."""
        return 2 * self.factor - 2

    def _shorter(self, size: Size, left: int) -> Size:
        return (size + left + self.right - _KERNEL) // _STRIDE + 1

    def forward(self, feats: Tensor, lens: Tensor, *, start: bool = True) -> tuple[Tensor, Tensor]:
        """`(B, T, F)`, `(B,)` to `(B, T', D)`, `(B,)`.

        `start=False` says that `feats` continues a stream and begins with the `context` frames before the first new one.
        """
        left = self.left if start else 0
        x = feats.unsqueeze(1)  # (B, 1, T, F)
        for layer in self.conv:
            if isinstance(layer, nn.Conv2d) and layer.stride != (1, 1):
                x = _silence(x, lens)
                x = layer(functional.pad(x, (self.left, self.right, left, self.right)))
                lens = self._shorter(lens, left)
            elif isinstance(layer, nn.ReLU):
                x = functional.relu(x)
            else:
                x = layer(x)
        x = _silence(x, lens)
        return self.out(x.transpose(1, 2).flatten(2)), lens.clamp(min=0)  # (B, C, T', F') -> (B, T', C F')


def _silence(x: Tensor, lens: Tensor) -> Tensor:
    """Zero the frames at and beyond each length: what a kernel reaches into there must not matter."""
    return x.masked_fill(~lengths.mask(lens, x.shape[2])[:, None, :, None], 0.0)
