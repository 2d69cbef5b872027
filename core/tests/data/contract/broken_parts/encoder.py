"""Encoders that each break one promise."""

from __future__ import annotations

import os
import random
import sys

import torch
from good_parts.encoder import RunningMean, WholeMean
from torch import nn

from sonant import lengths


def nameless(config, *, d_in):
    return RunningMean(config, d_in=d_in)


class Raises(RunningMean):
    def __init__(self, config, *, d_in):
        raise RuntimeError("no such luck")


class Exits(RunningMean):
    def __init__(self, config, *, d_in):
        sys.exit("no such luck")


class WritesEnvironment(RunningMean):
    def __init__(self, config, *, d_in):
        super().__init__(config, d_in=d_in)
        os.environ["TOKENIZERS_PARALLELISM"] = "false"


class ChangesFolder(RunningMean):
    def __init__(self, config, *, d_in):
        super().__init__(config, d_in=d_in)
        os.chdir(os.sep)


class ChangesDtype(RunningMean):
    def __init__(self, config, *, d_in):
        super().__init__(config, d_in=d_in)
        torch.set_default_dtype(torch.float64)


class Seeds(RunningMean):
    def __init__(self, config, *, d_in):
        torch.manual_seed(1234)
        super().__init__(config, d_in=d_in)


class WritesConfig(RunningMean):
    def __init__(self, config, *, d_in):
        super().__init__(config, d_in=d_in)
        config.options["d_in"] = d_in


class ForgetsANumber(RunningMean):
    def __init__(self, config, *, d_in):
        super().__init__(config, d_in=d_in)
        self.gain = 1 + random.random()

    def pairs(self, feats, lens):
        x, lens = super().pairs(feats, lens)
        return x * self.gain, lens


class ForgetsATable(RunningMean):
    def __init__(self, config, *, d_in):
        super().__init__(config, d_in=d_in)
        self.tables = [torch.linspace(0.5, 1.5, config.width)]

    def pairs(self, feats, lens):
        x, lens = super().pairs(feats, lens)
        return x * self.tables[0].to(x.dtype), lens


class KeepsDropout(RunningMean):
    def finish(self, x, total, count):
        out, sums = super().finish(x, total, count)
        return nn.functional.dropout(out, 0.5), sums


class CountsCalls(RunningMean):
    def __init__(self, config, *, d_in):
        super().__init__(config, d_in=d_in)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, feats, lens):
        self.calls += 1
        return super().forward(feats, lens)


class LosesPrecision(RunningMean):
    def finish(self, x, total, count):
        out, sums = super().finish(x, total, count)
        nearly = torch.tensor(0.9999, dtype=x.dtype)  # 1 in bfloat16
        return out / (1 - nearly), sums


class RefusesFloat32(RunningMean):
    def pairs(self, feats, lens):
        return super().pairs(nn.functional.linear(feats, torch.eye(self.d_in, dtype=self.enter.weight.dtype)), lens)


class UnusedParameter(RunningMean):
    def __init__(self, config, *, d_in):
        super().__init__(config, d_in=d_in)
        self.spare = nn.Parameter(torch.zeros(3))


class DetachedParameter(RunningMean):
    def pairs(self, feats, lens):
        x, lens = super().pairs(feats, lens)
        return x.detach(), lens


class NoSubsampling(RunningMean):
    def __init__(self, config, *, d_in):
        super().__init__(config, d_in=d_in)
        self.subsampling = 2.0


class WrongWidth(RunningMean):
    def __init__(self, config, *, d_in):
        super().__init__(config, d_in=d_in)
        self.d_out = config.width + 1
        self.leave = nn.Linear(config.width + 1, config.width)
        self.enter = nn.Linear(2 * d_in, config.width + 1)


class Int32Lengths(RunningMean):
    def forward(self, feats, lens):
        enc, lens = super().forward(feats, lens)
        return enc, lens.int()


class TooManyFrames(RunningMean):
    def __init__(self, config, *, d_in):
        super().__init__(config, d_in=d_in)
        self.subsampling = 3


class LeaksPadding(WholeMean):
    def forward(self, feats, lens):
        x = self.enter(feats.to(self.enter.weight.dtype))
        return x + x.mean(1, keepdim=True), lens


class RelativeLengths(RunningMean):
    streams = False

    def forward(self, feats, lens):
        enc, _ = super().forward(feats, lens)
        return enc, lens * enc.shape[1] // feats.shape[1]


class ForgetsToUnsort(WholeMean):
    def forward(self, feats, lens):
        order = lens.argsort(descending=True, stable=True)
        enc, _ = super().forward(feats[order], lens[order])
        return enc, lens


class FailsOnNothing(WholeMean):
    def forward(self, feats, lens):
        x = self.enter(feats.to(self.enter.weight.dtype))
        x = x.masked_fill(~lengths.mask(lens, x.shape[1])[..., None], float("-inf"))
        return x - x.logsumexp(1, keepdim=True) * (lens > 1)[:, None, None].to(x.dtype), lens + (lens == 0).long()


class ForgetsBetweenPieces(RunningMean):
    def step(self, feats, lens, states, *, last):
        out, frames, states = super().step(feats, lens, states, last=last)
        return out, frames, [(pending, torch.zeros_like(total), count) for pending, total, count in states]


class LosesTheLastPiece(RunningMean):
    def step(self, feats, lens, states, *, last):
        return super().step(feats, lens, states, last=[False] * len(states))


class MixesStreams(RunningMean):
    def step(self, feats, lens, states, *, last):
        longest = max(state[2] for state in states)
        return super().step(feats, lens, [(pending, total, longest) for pending, total, _ in states], last=last)


class WritesStates(RunningMean):
    def step(self, feats, lens, states, *, last):
        copies = [(pending, total.clone(), count) for pending, total, count in states]
        for state in states:
            state[1].zero_()
        return super().step(feats, lens, copies, last=last)


class NeedsTooMuch(RunningMean):
    def needs(self, state):
        return 2


class WritesFeatures(RunningMean):
    def forward(self, feats, lens):
        feats.masked_fill_(~lengths.mask(lens, feats.shape[1])[..., None], 0.0)
        return super().forward(feats, lens)


class WritesWhileStreaming(RunningMean):
    def step(self, feats, lens, states, *, last):
        feats.masked_fill_(~lengths.mask(lens, feats.shape[1])[..., None], 0.0)
        return super().step(feats, lens, states, last=last)


class WritesLengths(RunningMean):
    def forward(self, feats, lens):
        return super().forward(feats, lens.clamp_(max=feats.shape[1]))


class Deaf(RunningMean):
    def pairs(self, feats, lens):
        return super().pairs(torch.ones_like(feats), lens)
