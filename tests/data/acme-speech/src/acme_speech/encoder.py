"""An encoder of depthwise separable convolutions."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from acme_speech.config import DepthwiseConfig
from sonant import lengths


class Block(nn.Module):
    """Every channel over time, then all channels at every frame, with a residual connection."""

    def __init__(self, width: int, kernel_size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.depthwise = nn.Conv1d(width, width, kernel_size, padding=kernel_size // 2, groups=width)
        self.pointwise = nn.Linear(width, width)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        """`(B, T, D)`, which frames are padding `(B, T, 1)` to `(B, T, D)`."""
        y = self.norm(x).masked_fill(padding, 0.0)  # the convolution must not look into the padding
        y = self.depthwise(y.transpose(1, 2)).transpose(1, 2)
        return x + self.pointwise(functional.gelu(y))


class DepthwiseEncoder(nn.Module):
    """Joins frames, then a stack of blocks.

    Args:
        config: a `DepthwiseConfig`.
        d_in: bins of the features.
    """

    def __init__(self, config: DepthwiseConfig, *, d_in: int) -> None:
        super().__init__()
        self.config = config
        self.d_in, self.d_out, self.subsampling = d_in, config.width, config.subsampling
        self.join = nn.Linear(d_in * config.subsampling, config.width)
        self.blocks = nn.ModuleList(Block(config.width, config.kernel_size) for _ in range(config.n_layers))

    def forward(self, feats: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, T, F)`, `(B,)` to `(B, T', D)`, `(B,)`; computed in the dtype of the weights."""
        feats = feats.to(self.join.weight.dtype).masked_fill(~lengths.mask(lens, feats.shape[1])[..., None], 0.0)
        feats = functional.pad(feats, (0, 0, 0, -feats.shape[1] % self.subsampling))
        x = self.join(feats.unflatten(1, (-1, self.subsampling)).flatten(2))  # (B, T, F) -> (B, T', s F) -> (B, T', D)
        lens = (lens + self.subsampling - 1) // self.subsampling
        padding = ~lengths.mask(lens, x.shape[1])[..., None]
        for block in self.blocks:
            x = block(x, padding)
        return x, lens
