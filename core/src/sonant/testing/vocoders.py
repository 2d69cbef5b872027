"""What a vocoder promises: features to audio, alone and in any batch."""

from __future__ import annotations

import torch

from sonant.testing import compare, construction, samples
from sonant.testing.check import require
from sonant.testing.subject import D_IN, Subject

_LENS = (41, 26, 13)


def attributes(subject: Subject) -> None:
    """`d_in` is the number of bins that was asked for; `sample_rate` and `upsampling` are positive whole numbers."""
    construction.attributes(subject)
    built = subject.build()
    require(built.d_in == D_IN, f"its d_in is {built.d_in!r}, built with d_in={D_IN}")


@torch.no_grad()
def shapes_and_lengths(subject: Subject) -> None:
    """`(B, T, F)`, `(B,)` to `(B, N)`, `(B,)` int64, `upsampling` samples a frame, all finite."""
    built = subject.build()
    wav, lens = built(*samples.batch((10, 30), D_IN))
    require(wav.ndim == 2, f"the audio has shape {tuple(wav.shape)}, not (B, N)")
    require(wav.shape[0] == 2, f"a batch of 2 became {wav.shape[0]}")
    compare.lengths(lens, 2, wav.shape[1])
    gained = int(lens[1] - lens[0])
    require(
        abs(gained - 20 * built.upsampling) < built.upsampling,
        f"20 frames more give {gained} samples more, and upsampling says {built.upsampling} a frame",
    )
    compare.finite(wav, lens, "features of 10 and 30 frames")


def padding_invariance(subject: Subject) -> None:
    """Features give the same audio alone and in any batch."""
    compare.alone_and_in_company(subject.build(), *samples.batch(_LENS, D_IN))


@torch.no_grad()
def short_recordings(subject: Subject) -> None:
    """Features without a frame, or with one, neither fail nor give numbers that are not finite."""
    built = subject.build()
    for lens in ((1,), (9, 0, 1)):
        wav, counts = built(*samples.batch(lens, D_IN))
        compare.finite(wav, counts, f"features of {', '.join(map(str, lens))} frames")


CHECKS = (attributes, shapes_and_lengths, padding_invariance, short_recordings)
