"""The E-Branchformer encoder (Kim et al., 2022, arXiv:2210.00077)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from acme_speech.encoder.config import EBranchformerConfig
from acme_speech.encoder.layer import EBranchformerLayer
from sonant import lengths


class Subsampling(nn.Module):
    """Two convolutions with stride 2, then a projection: 4 times fewer frames."""

    factor = 4

    def __init__(self, bins: int, width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(1, width, 3, 2, 1), nn.Conv2d(width, width, 3, 2, 1)])
        self.out = nn.Linear(width * -(-bins // self.factor), width)

    def forward(self, feats: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, T, F)`, `(B,)` to `(B, T', D)`, `(B,)`."""
        x = feats[:, None]  # (B, 1, T, F)
        for conv in self.convs:
            x = x.masked_fill(~lengths.mask(lens, x.shape[2])[:, None, :, None], 0.0)
            x, lens = functional.relu(conv(x)), (lens + 1) // 2
        return self.out(x.transpose(1, 2).flatten(2)), lens  # (B, C, T', F') -> (B, T', C F')


class EBranchformer(nn.Module):
    """Subsampling and a stack of layers.

    Args:
        config: an `EBranchformerConfig`.
        d_in: bins of the features.
    """

    def __init__(self, config: EBranchformerConfig, *, d_in: int) -> None:
        super().__init__()
        self.config = config
        self.d_in, self.d_out, self.subsampling = d_in, config.d_model, Subsampling.factor
        self.pre_encode = Subsampling(d_in, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(EBranchformerLayer(config) for _ in range(config.n_layers))

    def forward(self, feats: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, T, F)`, `(B,)` to `(B, T', D)`, `(B,)`; computed in the dtype of the weights."""
        x, lens = self.pre_encode(feats.to(self.pre_encode.out.weight.dtype), lens)
        x = self.dropout(x)
        valid = lengths.mask(lens.clamp(min=1), x.shape[1])  # a softmax over nothing would be NaN
        for layer in self.layers:
            x = layer(x, valid)
        return x, lens
