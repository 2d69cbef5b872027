"""An augmentation: one bin silenced."""

from __future__ import annotations

import torch
from torch import nn


class Mask(nn.Module):
    """One bin silenced."""

    def __init__(self, config):
        super().__init__()
        self.config = config

    def forward(self, feats, lens):
        if not self.training:
            return feats
        bins = torch.arange(feats.shape[2], device=feats.device)
        return feats.masked_fill(bins == torch.randint(feats.shape[2], (), device=feats.device), 0.0)
