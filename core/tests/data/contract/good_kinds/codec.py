"""A codec: blocks of samples to the nearest points of a grid."""

from __future__ import annotations

from torch import nn
from torch.nn import functional

from sonant import lengths

HOP = 80


class Grid(nn.Module):
    """A few numbers for each block of samples, rounded."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.sample_rate, self.frame_rate = 8000, 100
        self.n_codebooks, self.codebook_size = config.books, config.levels
        self.enter, self.leave = nn.Linear(HOP, config.books), nn.Linear(config.books, HOP)

    def encode(self, wav, lens):
        wav = wav.masked_fill(~lengths.mask(lens, wav.shape[1]), 0.0)
        blocks = functional.pad(wav, (0, -wav.shape[1] % HOP)).unflatten(1, (-1, HOP))
        values = self.enter(blocks.to(self.enter.weight.dtype)).sigmoid()
        return self.round(values), (lens + HOP - 1) // HOP

    def round(self, values):
        return (values * (self.codebook_size - 1)).round().long()

    def decode(self, codes, lens):
        values = codes.to(self.leave.weight.dtype) / self.codebook_size
        return self.leave(values).flatten(1), lens * HOP
