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

    def finish(self, x, totals, counts):
        sums = x.cumsum(1) + totals[:, None]
        counts = torch.arange(1, x.shape[1] + 1, device=x.device) + counts[:, None]
        return self.leave(torch.tanh(x + (sums / counts[..., None]).to(x.dtype))), sums

    def forward(self, feats, lens):
        x, lens = self.pairs(feats, lens)
        return self.finish(x, x.new_zeros(len(x), self.d_out), lens.new_zeros(len(x)))[0], lens

    def init_state(self):
        return torch.zeros(0, self.d_in), torch.zeros(self.d_out), 0  # features without a partner, sum and number of frames

    def chunk(self):
        return 2

    def needs(self, state):
        return 2 - len(state[0])

    def step(self, feats, lens, states, *, last):
        rows = [torch.cat([state[0], row[:n]]) for state, row, n in zip(states, feats, lens.tolist(), strict=True)]
        ready = [len(row) if ends else len(row) // 2 * 2 for row, ends in zip(rows, last, strict=True)]
        whole = [row[:n] for row, n in zip(rows, ready, strict=True)]
        x, frames = self.pairs(nn.utils.rnn.pad_sequence(whole, batch_first=True), torch.tensor(ready))
        counts = torch.tensor([state[2] for state in states])
        out, sums = self.finish(x, torch.stack([state[1] for state in states]), counts)
        return (
            out,
            frames,
            [
                (row[n:], sums[i, k - 1] if k else state[1], state[2] + k)
                for i, (row, n, k, state) in enumerate(zip(rows, ready, frames.tolist(), states, strict=True))
            ],
        )


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
