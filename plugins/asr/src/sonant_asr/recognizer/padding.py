"""Silence around recordings that are shorter than a head was trained for, and times without it."""

from __future__ import annotations

import torch
from attrs import evolve
from torch import Tensor

from sonant.results import Span, Transcript


def lengthen(wav: Tensor, lens: Tensor, shortest: int) -> tuple[Tensor, Tensor, Tensor]:
    """`(B, N)`, `(B,)` with zeros on both sides of recordings shorter than `shortest` samples, and how many before `(B,)`.

    A recording without samples stays empty.
    """
    if shortest <= 0:
        return wav, lens, torch.zeros_like(lens)  # without asking an accelerator, which would have to be waited for
    missing = torch.where(lens > 0, (shortest - lens).clamp(min=0), 0)
    before = (missing + 1) // 2
    if not bool(missing.any()):
        return wav, lens, before
    padded = wav.new_zeros(len(wav), max(wav.shape[1], shortest))
    for row, (left, length) in enumerate(zip(before.tolist(), lens.tolist(), strict=True)):
        padded[row, left : left + length] = wav[row, :length]
    return padded, lens + missing, before


def moved(found: Transcript, seconds: float) -> Transcript:
    """A transcript whose times begin `seconds` later, as times of the recording itself."""
    if not seconds:
        return found
    return evolve(
        found,
        words=_moved(found.words, seconds, found.duration),
        segments=_moved(found.segments, seconds, found.duration),
        chars=_moved(found.chars, seconds, found.duration),
    )


def _moved(spans: tuple[Span, ...], seconds: float, end: float) -> tuple[Span, ...]:
    return tuple(_one(span, seconds, end) for span in spans)


def _one(span: Span, seconds: float, end: float) -> Span:
    return evolve(span, start=min(max(span.start - seconds, 0.0), end), end=min(max(span.end - seconds, 0.0), end))
