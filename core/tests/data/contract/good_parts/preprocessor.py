"""A preprocessor: blocks of samples through a bank of fixed filters."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from sonant import lengths

HOP = 80


class Blocks(nn.Module):
    """Blocks of samples through a bank of filters."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.sample_rate = config.sample_rate
        self.frame_rate = config.sample_rate / HOP
        self.d_out = config.bins
        self.register_buffer("filters", config.scales[0] * torch.randn(HOP, config.bins))

    def forward(self, wav, lens):
        wav = wav.masked_fill(~lengths.mask(lens, wav.shape[1]), 0.0)
        wav = functional.pad(wav, (0, -wav.shape[1] % HOP))
        feats = wav.unflatten(1, (-1, HOP)).to(self.filters.dtype) @ self.filters
        return feats, (lens + HOP - 1) // HOP
