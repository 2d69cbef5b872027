"""What an encoder promises: features to vectors, alone, in any batch, and piece by piece."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sonant.testing import compare, samples
from sonant.testing.check import Skipped, require
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
    """Fed in pieces of any size, the last one possibly empty, it gives what it gives for the whole."""
    built = subject.build()
    if not getattr(built, "streams", False):
        raise Skipped("does not stream")
    count, short = _lens(built)[0], 3 * built.subsampling + 1
    for total, size in ((count, 1), (count, 7), (count, 2 * built.subsampling), (count, count), (short, short - 1)):
        _check_stream(built, total, size, flush=False)
    for total, size in ((count, 7), (short, short)):
        _check_stream(built, total, size, flush=True)


def _check_stream(encoder: Any, total: int, size: int, *, flush: bool) -> None:
    last = 0 if flush else (total - 1) % size + 1
    ends = {total, total - last // 2, max(1, total - last)}  # of the last piece, within it, and where it begins
    feats, lens = samples.batch(sorted(ends, reverse=True), D_IN)
    whole, frames = encoder(feats, lens)
    pieces = _stream(encoder, feats, lens, size, flush)
    counts = [len(piece) for piece in pieces]
    what = f"{total} frames streamed in pieces of {size}" + (" and an empty last one" if flush else "")
    require(counts == frames.tolist(), f"{what} give {counts} vectors, and as a whole {frames.tolist()}")
    for row, valid in enumerate(counts):
        compare.close(pieces[row], whole[row, :valid], f"{what} give other vectors than as a whole")


def _stream(encoder: Any, feats: Tensor, lens: Tensor, size: int, flush: bool) -> list[Tensor]:
    """What comes out for each row of a batch that is fed `size` frames at a time."""
    state, total = encoder.init_state(len(lens)), feats.shape[1]
    rows: list[list[Tensor]] = [[] for _ in lens]
    starts = list(range(0, total, size)) + [total] * flush
    for start in starts:
        piece = feats[:, start : start + size]
        valid = (lens - start).clamp(0, piece.shape[1])
        enc, counts, state = encoder.step(piece, valid, state, last=start == starts[-1])
        for row, vectors, n in zip(rows, enc, counts.tolist(), strict=True):
            row.append(vectors[:n])
    return [torch.cat(row) for row in rows]


CHECKS = (attributes, shapes_and_lengths, padding_invariance, batch_order, short_recordings, streaming_equals_offline)
