"""An encoder that streams: pairs of frames, and the mean of all so far. Another that does not: the mean of all."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from sonant import lengths


class RunningMean(nn.Module):
    """Pairs of frames, and the mean of all so far."""

    def __init__(self, config, *, d_in):
        super().__init__()
        self.config = config
        self.d_in, self.d_out, self.subsampling = d_in, config.width, 2
        self.enter = nn.Linear(2 * d_in, config.width)
        self.leave = nn.Linear(config.width, config.width)

    @property
    def streams(self):
        return True

    def pairs(self, feats, lens):
        feats = feats.to(self.enter.weight.dtype).masked_fill(~lengths.mask(lens, feats.shape[1])[..., None], 0.0)
        feats = functional.pad(feats, (0, 0, 0, feats.shape[1] % 2))
        return self.enter(feats.unflatten(1, (-1, 2)).flatten(2)), (lens + 1) // 2

    def finish(self, x, total, count):
        sums = x.cumsum(1) + total[:, None]
        counts = torch.arange(1, x.shape[1] + 1, device=x.device)[:, None] + count
        return self.leave(torch.tanh(x + (sums / counts).to(x.dtype))), sums

    def forward(self, feats, lens):
        x, lens = self.pairs(feats, lens)
        return self.finish(x, x.new_zeros(len(x), self.d_out), 0)[0], lens

    def init_state(self, batch):
        return torch.zeros(batch, 0, self.d_in), torch.zeros(batch, self.d_out), 0

    def step(self, feats, lens, state, *, last=False):
        pending, total, count = state
        feats = torch.cat([pending, feats], dim=1)
        lens = lens + pending.shape[1]
        ready = feats.shape[1] if last else feats.shape[1] // 2 * 2
        x, frames = self.pairs(feats[:, :ready], lens.clamp(max=ready))
        out, sums = self.finish(x, total, count)
        total = sums[:, -1] if x.shape[1] else total
        return out, frames, (feats[:, ready:], total, count + x.shape[1])


class WholeMean(nn.Module):
    """Every frame, and the mean of all."""

    def __init__(self, config, *, d_in):
        super().__init__()
        self.config = config
        self.d_in, self.d_out, self.subsampling = d_in, config.width, 1
        self.enter = nn.Linear(d_in, config.width)

    def forward(self, feats, lens):
        x = self.enter(feats.to(self.enter.weight.dtype))
        x = x.masked_fill(~lengths.mask(lens, x.shape[1])[..., None], 0.0)
        return x + x.sum(1, keepdim=True) / lens.clamp(min=1)[:, None, None].to(x.dtype), lens
