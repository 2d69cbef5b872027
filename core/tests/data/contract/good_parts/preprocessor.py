"""A preprocessor: blocks of samples through a bank of fixed filters."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from sonant import lengths

HOP = 80


class Blocks(nn.Module):
    """Blocks of samples through a bank of filters."""

    streams = True

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

    def init_state(self):
        return torch.zeros(0)  # samples of a block that is not whole

    def needs(self, state, frames=1):
        return frames * HOP - len(state)

    def step(self, wav, lens, states, *, last):
        rows = [torch.cat([state, row[:n]]) for state, row, n in zip(states, wav, lens.tolist(), strict=True)]
        ready = [len(row) if ends else len(row) // HOP * HOP for row, ends in zip(rows, last, strict=True)]
        feats, frames = self(*lengths.pad([row[:n] for row, n in zip(rows, ready, strict=True)]))
        return feats, frames, [row[n:] for row, n in zip(rows, ready, strict=True)]
