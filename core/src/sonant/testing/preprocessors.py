"""What a preprocessor promises: recordings to features, whatever lies behind a recording's end."""

from __future__ import annotations

import torch

from sonant.testing import compare, samples, streams
from sonant.testing.check import require
from sonant.testing.construction import attributes
from sonant.testing.subject import Subject

_LOUDNESS = 0.1


@torch.no_grad()
def shapes_and_lengths(subject: Subject) -> None:
    """`(B, N)`, `(B,)` to `(B, T, d_out)`, `(B,)` int64; so many frames a second as `frame_rate` says."""
    built = subject.build()
    rate = built.sample_rate
    wav, lens = samples.batch((rate, 3 * rate), scale=_LOUDNESS)
    feats, frames = built(wav, lens)
    require(feats.ndim == 3, f"the features have shape {tuple(feats.shape)}, not (B, T, F)")
    require(feats.shape[0] == 2, f"a batch of 2 became {feats.shape[0]}")
    require(feats.shape[2] == built.d_out, f"the features have {feats.shape[2]} bins, and d_out says {built.d_out}")
    compare.lengths(frames, 2, feats.shape[1])
    gained = int(frames[1] - frames[0])
    require(
        abs(gained - 2 * built.frame_rate) <= 1,
        f"two seconds more of audio give {gained} frames more, and frame_rate says {built.frame_rate} a second",
    )


def padding_invariance(subject: Subject) -> None:
    """A recording gives the same features alone and in any batch."""
    built = subject.build()
    rate = built.sample_rate
    compare.alone_and_in_company(built, *samples.batch((rate, rate // 2, rate // 3 + 1), scale=_LOUDNESS))


@torch.no_grad()
def short_recordings(subject: Subject) -> None:
    """A recording without a sample, or with one, neither fails nor gives numbers that are not finite."""
    built = subject.build()
    for lens in ((0,), (1,), (built.sample_rate, 0, 1)):
        feats, frames = built(*samples.batch(lens, scale=_LOUDNESS))
        compare.finite(feats, frames, f"recordings of {', '.join(map(str, lens))} samples")


@torch.no_grad()
def streaming_equals_offline(subject: Subject) -> None:
    """Fed in pieces of any size, alone or beside streams that stand elsewhere, it gives what it gives for the whole."""
    built = subject.build()
    unit = int(built.sample_rate / built.frame_rate)
    lens = (11 * unit + 29, 7 * unit + 18, 4 * unit + 9, unit // 2)
    values = [_LOUDNESS * samples.noise(n, seed=seed) for seed, n in enumerate(lens)]
    streams.equal_offline(built, values, (unit // 20 + 1, unit, 3 * unit + 7, lens[0]), unit)


CHECKS = (attributes, shapes_and_lengths, padding_invariance, short_recordings, streaming_equals_offline)
