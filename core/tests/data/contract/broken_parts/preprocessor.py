"""Preprocessors that each break one promise."""

from __future__ import annotations

import torch
from good_parts.preprocessor import Blocks


class NoSampleRate(Blocks):
    def __init__(self, config):
        super().__init__(config)
        self.sample_rate = float(config.sample_rate)


class WrongFrameRate(Blocks):
    def __init__(self, config):
        super().__init__(config)
        self.frame_rate = 2 * self.frame_rate


class Int32Lengths(Blocks):
    streams = False

    def forward(self, wav, lens):
        feats, frames = super().forward(wav, lens)
        return feats, frames.int()


class NormalizesPadding(Blocks):
    streams = False

    def forward(self, wav, lens):
        feats, frames = super().forward(wav, lens)
        return feats - feats.mean(1, keepdim=True), frames


class OneFrameDeviation(Blocks):
    streams = False

    def forward(self, wav, lens):
        feats, frames = super().forward(wav, lens)
        for row, n in zip(feats, frames, strict=True):
            deviation = (row[:n] - row[:n].mean(0, keepdim=True)).square().sum(0).div(n - 1).sqrt()
            row /= deviation if n else 1.0
        return feats, frames


class LosesTheLastBlock(Blocks):
    def step(self, wav, lens, states, *, last):
        return super().step(wav, lens, states, last=[False] * len(states))


class WritesSamples(Blocks):
    streams = False

    def forward(self, wav, lens):
        return super().forward(wav.clamp_(-0.1, 0.1), lens)


class Deaf(Blocks):
    streams = False

    def forward(self, wav, lens):
        return super().forward(torch.ones_like(wav), lens)
