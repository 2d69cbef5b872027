"""How a long recording is encoded, decided from its length and the memory that is free."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch

from sonant import memory
from sonant_asr.long.chunking import Mode

SHORT: Final = 120.0
"""Seconds up to which nothing is decided, and recordings share a batch."""

LONGEST_FULL: Final = 24 * 60.0
"""Seconds up to which attention sees everything: so far NVIDIA has shown Parakeet to do it. Its work grows with the square."""

_SHARE = 0.8  # of the free memory that is counted on


def modes(encoder: Any, frames: int, seconds: float, window: Sequence[int]) -> Iterator[tuple[Mode, str]]:
    """The modes to try, the best first, each with the reason that it is not a better one.

    `frames` are the features of the recording, which are computed already, and `seconds` its length.
    """
    device = device_of(encoder)
    free = memory.free(device)
    room = None if free is None else int(_SHARE * free)
    reason = ""
    if getattr(encoder, "attends_to_all", True) and seconds > LONGEST_FULL:
        reason = f"attention to everything is for up to {LONGEST_FULL / 60:.0f} min"
    else:
        reason = _too_much(needed(encoder, frames), room, device, "attention to everything")
        if not reason:
            yield "full", ""
            reason = "memory ran out with attention to everything"
    if getattr(encoder, "takes_windows", False):
        too_much = _too_much(needed(encoder, frames, window), room, device, "local attention")
        if not too_much:
            yield "local", reason
            too_much = "memory ran out with local attention"
        reason = f"{reason}, and {too_much}"
    yield "chunks", reason


def device_of(encoder: Any) -> torch.device:
    """Where its weights are."""
    return next(encoder.parameters()).device


def needed(encoder: Any, frames: int, window: Sequence[int] | None = None) -> int:
    """About how many bytes the encoder takes beside its weights and features."""
    if hasattr(encoder, "memory"):
        return int(encoder.memory(frames) if window is None else encoder.memory(frames, att_context_size=window))
    count, size = frames // encoder.subsampling + 1, next(encoder.parameters()).element_size()
    return count * size * (20 * encoder.d_out + 8 * count)  # of one that is not known: attention with eight heads


def _too_much(bytes_needed: int, room: int | None, device: torch.device, what: str) -> str:
    if room is None or bytes_needed <= room:
        return ""
    return f"{what} would take {_gib(bytes_needed)} of the {_gib(room)} that can be had on {device.type}"


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on whatever device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in ("out of memory", "allocate memory", "enough memory"))
