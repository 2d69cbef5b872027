"""Codecs that each break one promise."""

from __future__ import annotations

from good_kinds.codec import Grid

from sonant.lengths import mask


class NoSize(Grid):
    def __init__(self, config):
        super().__init__(config)
        self.codebook_size = float(config.levels)


class Floats(Grid):
    def round(self, values):
        return super().round(values).to(values.dtype)


class TooLarge(Grid):
    def round(self, values):
        return super().round(values) + self.codebook_size


class TooSlow(Grid):
    def __init__(self, config):
        super().__init__(config)
        self.frame_rate = 50


class TooShort(Grid):
    def decode(self, codes, lens):
        wav, lens = super().decode(codes, lens)
        return wav, (lens - 200).clamp(min=0)


class HearsPadding(Grid):
    def encode(self, wav, lens):
        return super().encode(wav / wav.abs().mean(1, keepdim=True), lens)


class DecodesPadding(Grid):
    def decode(self, codes, lens):
        wav, lens = super().decode(codes, lens)
        return wav - wav.mean(1, keepdim=True), lens


class OneFrameDeviation(Grid):
    def decode(self, codes, lens):
        wav, counts = super().decode(codes, lens)
        frames = (lens - 1)[:, None].to(wav.dtype)
        return wav * (wav.abs() / frames).masked_fill(~mask(counts, wav.shape[1]), 0.0), counts


class WritesCodes(Grid):
    def decode(self, codes, lens):
        return super().decode(codes.masked_fill_(~mask(lens, codes.shape[1])[..., None], 0), lens)


class Deaf(Grid):
    def round(self, values):
        return super().round(values) * 0


class Mute(Grid):
    def decode(self, codes, lens):
        wav, lens = super().decode(codes, lens)
        return wav * 0, lens
