"""Vocoders that each break one promise."""

from __future__ import annotations

from good_kinds.vocoder import Blocks

from sonant.lengths import mask


class OtherWidth(Blocks):
    def __init__(self, config, *, d_in):
        super().__init__(config, d_in=d_in)
        self.d_in = d_in + 1


class NoRate(Blocks):
    def __init__(self, config, *, d_in):
        super().__init__(config, d_in=d_in)
        self.sample_rate = None


class ThreeDimensions(Blocks):
    def forward(self, feats, lens):
        wav, lens = super().forward(feats, lens)
        return wav[:, :, None], lens


class TooFewSamples(Blocks):
    def forward(self, feats, lens):
        wav, lens = super().forward(feats, lens)
        return wav, lens // 2


class Normalizes(Blocks):
    def forward(self, feats, lens):
        wav, lens = super().forward(feats, lens)
        return wav / wav.abs().mean(1, keepdim=True), lens


class OneFrameDeviation(Blocks):
    def forward(self, feats, lens):
        valid = mask(lens, feats.shape[1])[..., None]
        feats = feats.masked_fill(~valid, 0.0)
        count = lens[:, None, None].to(feats.dtype)
        distances = (feats - feats.sum(1, keepdim=True) / count).masked_fill(~valid, 0.0)
        variance = distances.square().sum(1, keepdim=True) / (count - 1)
        return super().forward(feats / variance.sqrt(), lens)


class WritesFeatures(Blocks):
    def forward(self, feats, lens):
        return super().forward(feats.clamp_(-1, 1), lens)


class Zeros(Blocks):
    def forward(self, feats, lens):
        wav, lens = super().forward(feats, lens)
        return wav - wav.detach(), lens
