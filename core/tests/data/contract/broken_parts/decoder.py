"""Decoders that each break one promise, and whole ones that carry a broken search."""

from __future__ import annotations

import torch
from good_parts.decoder import Frames


class OtherWidth(Frames):
    def __init__(self, config, *, d_in, vocab_size):
        super().__init__(config, d_in=d_in, vocab_size=vocab_size)
        self.d_in = d_in + 1


class UnknownSearch(Frames):
    search = "bset"


class NoFamily(Frames):
    family = None


class OfAnotherFamily(Frames):
    family = "blocks"


class AsksSpeakers(Frames):
    def forward(self, enc, speakers):
        return self.score(enc) + speakers


class WritesVectors(Frames):
    def score(self, enc):
        return super().score(enc.clamp_(-2, 2))


class Deaf(Frames):
    def forward(self, enc):
        return self.score(torch.ones_like(enc))


def __getattr__(name):
    """`CarriesGoesBack` is a decoder whose search is `broken/goes_back`."""
    if not name.startswith("Carries"):
        raise AttributeError(name)
    words = "".join(f"_{c.lower()}" if c.isupper() else c for c in name.removeprefix("Carries"))
    return type(name, (Frames,), {"search": f"broken/{words.removeprefix('_')}"})
