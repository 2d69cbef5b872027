"""What a codec promises: audio to codes and back, alone and in any batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sonant.testing import calls, compare, samples
from sonant.testing.check import require
from sonant.testing.construction import attributes
from sonant.testing.subject import Subject

_LOUDNESS = 0.1
_FLIPS = 0.01  # of the codes: where two are equally near, rounding may choose


@torch.no_grad()
def codes(subject: Subject) -> None:
    """`(B, N)`, `(B,)` to codes `(B, T, n_codebooks)` int64 below `codebook_size`, `frame_rate` frames a second."""
    built = subject.build()
    rate = built.sample_rate
    found, frames = built.encode(*samples.batch((rate, 3 * rate), scale=_LOUDNESS))
    require(found.ndim == 3, f"the codes have shape {tuple(found.shape)}, not (B, T, Q)")
    require(found.shape[0] == 2, f"a batch of 2 became {found.shape[0]}")
    require(found.shape[2] == built.n_codebooks, f"a frame has {found.shape[2]} codes, and n_codebooks says {built.n_codebooks}")
    require(found.dtype == torch.int64, f"the codes are {found.dtype}, not torch.int64")
    compare.lengths(frames, 2, found.shape[1])
    gained = int(frames[1] - frames[0])
    require(
        abs(gained - 2 * built.frame_rate) <= 1,
        f"two seconds more of audio give {gained} frames more, and frame_rate says {built.frame_rate} a second",
    )
    valid = torch.cat([row[:n].flatten() for row, n in zip(found, frames.tolist(), strict=True)])
    low, high = int(valid.min()), int(valid.max())
    require(
        low >= 0 and high < built.codebook_size, f"the codes go from {low} to {high}, and codebook_size is {built.codebook_size}"
    )


@torch.no_grad()
def comes_back_as_long(subject: Subject) -> None:
    """What was encoded and decoded is `(B, N)`, `(B,)` int64, finite, and as long as it was, up to a frame."""
    built = subject.build()
    wav, lens = calls.recordings(built)
    again, counts = built.decode(*built.encode(wav, lens))
    require(again.ndim == 2, f"the decoded audio has shape {tuple(again.shape)}, not (B, N)")
    compare.lengths(counts, len(lens), again.shape[1])
    frame = built.sample_rate / built.frame_rate
    for before, after in zip(lens.tolist(), counts.tolist(), strict=True):
        require(abs(after - before) <= frame, f"{before} samples come back as {after}; a frame is {frame:g} samples")
    compare.finite(again, counts, "codes of its own")


@torch.no_grad()
def padding_invariance(subject: Subject) -> None:
    """A recording gives the same codes, and codes the same audio, alone and in any batch."""
    built = subject.build()
    _same_codes_alone(built, *calls.recordings(built))
    compare.alone_and_in_company(built.decode, *calls.codes(built))


def _same_codes_alone(codec: Any, wav: Tensor, lens: Tensor) -> None:
    together, counts = codec.encode(wav, lens)
    for row, length in enumerate(lens.tolist()):
        alone, count = codec.encode(wav[row : row + 1, :length], lens[row : row + 1])
        what = f"a recording of length {length} alone, and padded to {wav.shape[1]} in a batch,"
        require(int(count[0]) == int(counts[row]), f"{what} gives {int(count[0])} and {int(counts[row])} frames of codes")
        differ = (alone[0, : int(count[0])] != together[row, : int(count[0])]).double().mean()
        require(not differ > _FLIPS, f"padding leaks into the codes: {what} differs in {float(differ):.0%} of them")


@torch.no_grad()
def short_recordings(subject: Subject) -> None:
    """A recording without a sample, or with one, can be encoded and decoded."""
    built = subject.build()
    for lens in ((1,), (built.sample_rate, 0, 1)):
        wav, counts = built.decode(*built.encode(*samples.batch(lens, scale=_LOUDNESS)))
        compare.finite(wav, counts, f"recordings of {', '.join(map(str, lens))} samples, encoded and decoded,")


CHECKS = (attributes, codes, comes_back_as_long, padding_invariance, short_recordings)
