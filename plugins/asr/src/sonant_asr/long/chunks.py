"""Encoding a recording in overlapped chunks.

The chunks are joined as encoder frames, before any search: each is encoded with some seconds before and behind it, whose frames
are dropped, and one search then reads all frames as if they had come at once. So no word can be lost or doubled where two chunks
meet. An encoder whose frames depend on no more than the context gives exactly what it gives for the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_AT_ONCE = {"cpu": 1}  # elsewhere more chunks at once keep the processor busy
_AT_ONCE_ELSEWHERE = 8


def encode(
    encoder: Any, feats: Tensor, length: int, *, size: int, context: int, progress: Callable[[float], object] | None = None
) -> tuple[Tensor, Tensor]:
    """`(1, T, F)`, of which `length` are valid, to `(1, T', D)`, `(1,)`.

    Args:
        encoder: any.
        feats: features of one recording.
        length: its frames.
        size: encoder frames of a chunk.
        context: encoder frames heard before and behind it.
        progress: called with the part that is done.
    """
    factor = encoder.subsampling
    starts = list(range(0, max(1, -(-length // factor)), size))  # in encoder frames
    at_once = _AT_ONCE.get(feats.device.type, _AT_ONCE_ELSEWHERE)
    kept: list[Tensor] = []
    for first in range(0, len(starts), at_once):
        group = starts[first : first + at_once]
        pieces = [feats[0, max(0, s - context) * factor : min(length, (s + size + context) * factor)] for s in group]
        lens = torch.tensor([len(piece) for piece in pieces], device=feats.device)
        enc, counts = encoder(torch.nn.utils.rnn.pad_sequence(pieces, batch_first=True), lens)
        for row, start, count in zip(enc, group, counts.tolist(), strict=True):
            begin = min(start, context)
            end = count if start == starts[-1] else min(count, begin + size)
            kept.append(row[begin:end].clone())
        if progress is not None:
            progress((first + len(group)) / len(starts))
    out = torch.cat(kept).unsqueeze(0)
    return out, torch.tensor([out.shape[1]], device=feats.device)
