"""What an encoder promises: features to vectors, alone, in any batch, and piece by piece."""

from __future__ import annotations

from typing import Any

import torch

from sonant.testing import compare, samples, streams
from sonant.testing.check import require
from sonant.testing.construction import attributes
from sonant.testing.subject import D_IN, Subject


def _lens(encoder: Any) -> tuple[int, int, int]:
    """Odd ones, with some frames left after subsampling."""
    return 11 * encoder.subsampling + 29, 7 * encoder.subsampling + 18, 4 * encoder.subsampling + 9


@torch.no_grad()
def shapes_and_lengths(subject: Subject) -> None:
    """`(B, T, F)`, `(B,)` to `(B, T', d_out)`, `(B,)` int64, `subsampling` times fewer frames."""
    built = subject.build()
    short = 5 * built.subsampling
    enc, frames = built(*samples.batch((short, 3 * short), D_IN))
    require(enc.ndim == 3, f"the result has shape {tuple(enc.shape)}, not (B, T, D)")
    require(enc.shape[0] == 2, f"a batch of 2 became {enc.shape[0]}")
    require(enc.shape[2] == built.d_out, f"the vectors are {enc.shape[2]} wide, and d_out says {built.d_out}")
    compare.lengths(frames, 2, enc.shape[1])
    gained = int(frames[1] - frames[0])
    require(
        abs(gained - 10) <= 1,
        f"{2 * short} frames more give {gained} vectors more, and subsampling says {built.subsampling} times fewer",
    )


def padding_invariance(subject: Subject) -> None:
    """A recording gives the same vectors alone and in any batch."""
    built = subject.build()
    compare.alone_and_in_company(built, *samples.batch(_lens(built), D_IN))


@torch.no_grad()
def batch_order(subject: Subject) -> None:
    """Recordings in another order give the same vectors in that order."""
    built = subject.build()
    feats, lens = samples.batch(_lens(built), D_IN)
    enc, frames = built(feats, lens)
    order = torch.tensor([1, 2, 0])
    reordered, counts = built(feats[order], lens[order])
    for new, old in enumerate(order.tolist()):
        valid = int(frames[old])
        require(int(counts[new]) == valid, "the lengths depend on the order of the batch")
        compare.close(reordered[new, :valid], enc[old, :valid], "the order of the batch changes a recording's result")


@torch.no_grad()
def short_recordings(subject: Subject) -> None:
    """A recording without a frame, or with one, neither fails nor gives numbers that are not finite."""
    built = subject.build()
    for lens in ((1,), (29 + built.subsampling, 0, 1)):
        enc, frames = built(*samples.batch(lens, D_IN))
        compare.finite(enc, frames, f"recordings of {', '.join(map(str, lens))} frames")


@torch.no_grad()
def streaming_equals_offline(subject: Subject) -> None:
    """Fed in pieces of any size, alone or beside streams that stand elsewhere, it gives what it gives for the whole."""
    built = subject.build()
    unit = built.subsampling
    lens = (*_lens(built), 3 * unit + 1)
    values = [samples.noise(n, D_IN, seed=seed) for seed, n in enumerate(lens)]
    streams.equal_offline(built, values, (1, 7, 2 * unit, lens[0]), unit)


CHECKS = (attributes, shapes_and_lengths, padding_invariance, batch_order, short_recordings, streaming_equals_offline)
