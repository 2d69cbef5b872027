"""A vocoder: a block of samples for every frame."""

from __future__ import annotations

from torch import nn


class Blocks(nn.Module):
    """Every frame by itself to a block of samples."""

    def __init__(self, config, *, d_in):
        super().__init__()
        self.config = config
        self.d_in, self.sample_rate, self.upsampling = d_in, 8000, 40
        self.out = nn.Linear(d_in, self.upsampling)

    def forward(self, feats, lens):
        return self.out(feats.to(self.out.weight.dtype)).flatten(1).tanh(), lens * self.upsampling
