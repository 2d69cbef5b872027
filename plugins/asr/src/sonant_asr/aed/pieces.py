"""Long recordings for heads that write: piece by piece, cut where it is quiet.

An attention decoder was trained on what people say in one breath or a few, and holds a limited number of tokens. Chunks that
overlap would need their texts merged; a cut in a pause needs nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import torch
from attrs import evolve
from torch import Tensor

from sonant import lengths
from sonant.results import Span, Transcript
from sonant.runtime import Batch
from sonant_asr.long.chunking import Chunking

log = logging.getLogger(__name__)

_EARLIEST: Final = 0.75  # of the longest piece, before which there is no cut
_PAUSE: Final = 0.2  # seconds over which it must be quiet
_STEP: Final = 0.02  # seconds between the places that are compared
_TOGETHER: Final = 8  # pieces in a batch


def longest(head: Any, asked: Chunking) -> float | None:
    """The seconds of audio that a head hears at once, as far as it is limited and nothing else was asked for."""
    limit: float | None = getattr(head, "longest_seconds", None)
    if limit is None or asked.mode in ("full", "local"):
        return None
    return asked.seconds if asked.mode == "chunks" else limit


def transcribe(
    batch: Batch, sample_rate: int, longest: float, infer: Callable[[Batch], Sequence[Transcript]]
) -> list[Transcript]:
    """Transcribe recordings of which some are longer than `longest` seconds, each by itself."""
    return [_one(recording, sample_rate, longest, infer) for recording in batch.each()]


def _one(recording: Batch, sample_rate: int, longest: float, infer: Callable[[Batch], Sequence[Transcript]]) -> Transcript:
    wav, (item,) = recording.wav[0], recording.items
    ends = cuts(wav, sample_rate, longest)
    if not ends:
        return infer(recording)[0]
    log.info("%s: %.1f s heard in %d pieces, cut where it is quiet", item.name, len(wav) / sample_rate, len(ends) + 1)
    starts = [0, *ends]
    pieces = [wav[start:end] for start, end in zip(starts, [*ends, len(wav)], strict=True)]
    found: list[Transcript] = []
    for first in range(0, len(pieces), _TOGETHER):
        some = pieces[first : first + _TOGETHER]
        found += infer(Batch(*lengths.pad(some), (item,) * len(some)))
    return joined(found, [start / sample_rate for start in starts])


def cuts(wav: Tensor, sample_rate: int, longest: float) -> list[int]:
    """Where to cut `(N,)` samples so that no piece is longer than `longest` seconds, in the quietest places that allow it."""
    return list(_cuts(wav, sample_rate, round(longest * sample_rate)))


def _cuts(wav: Tensor, sample_rate: int, most: int) -> Iterator[int]:
    start = 0
    while len(wav) - start > most:
        first = start + round(most * _EARLIEST)
        start = first + _quietest(wav[first : start + most], sample_rate)
        yield start


def _quietest(wav: Tensor, sample_rate: int) -> int:
    """The middle of the quietest stretch of `(N,)` samples; of equals the first."""
    size = min(len(wav), max(1, round(_PAUSE * sample_rate)))
    energy = wav.double().square().cumsum(0)
    energy = torch.cat([energy.new_zeros(1), energy])
    sums = (energy[size:] - energy[:-size])[:: max(1, round(_STEP * sample_rate))]
    return int(sums.argmin()) * max(1, round(_STEP * sample_rate)) + size // 2


def joined(found: Sequence[Transcript], starts: Sequence[float]) -> Transcript:
    """The transcripts of pieces that begin at `starts`, in seconds, as one."""
    texts = [one.text.strip() for one in found]
    return evolve(
        found[0],
        text=" ".join(text for text in texts if text),
        duration=starts[-1] + found[-1].duration,
        tokens=tuple(token for one in found for token in one.tokens),
        score=sum(one.score or 0.0 for one in found),
        alternatives=(),
        words=_shifted([one.words for one in found], starts),
        segments=_shifted([one.segments for one in found], starts),
        chars=_shifted([one.chars for one in found], starts),
    )


def _shifted(spans: Sequence[Sequence[Span]], starts: Sequence[float]) -> tuple[Span, ...]:
    pairs = zip(spans, starts, strict=True)
    return tuple(evolve(span, start=span.start + begin, end=span.end + begin) for some, begin in pairs for span in some)
