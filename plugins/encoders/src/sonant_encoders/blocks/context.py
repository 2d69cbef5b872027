"""Which frames may see which: full, windowed and chunked attention as one interval of keys for every query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Style = Literal["regular", "chunked_limited", "chunked_limited_with_rc"]


def check(style: Style, size: Sequence[int]) -> None:
    """Refuse contexts that mean nothing.

    Raises:
        ValueError: says what the style expects.
    """
    expected = 3 if style == "chunked_limited_with_rc" else 2
    if len(size) != expected or any(not isinstance(s, int) or s < -1 for s in size):
        names = "left, chunk, right" if expected == 3 else "left, right"
        raise ValueError(f"att_context_size {list(size)} of style {style!r} must be [{names}] in frames, -1 for unlimited")
    if style == "chunked_limited" and size[1] >= 0 and size[0] > 0 and size[0] % (size[1] + 1):
        raise ValueError(
            f"att_context_size {list(size)}: left context {size[0]} is not a whole number of chunks of {size[1] + 1} frames"
        )
    if style == "chunked_limited_with_rc" and size[1] == 0:
        raise ValueError(f"att_context_size {list(size)}: a chunk has at least one frame")


def reach(style: Style, size: Sequence[int]) -> tuple[int, int]:
    """How far before and after itself a frame sees at most, -1 for unlimited: the bounds of its interval."""
    if style == "regular":
        return size[0], size[1]
    if style == "chunked_limited_with_rc":
        left, chunk, right = size
        if chunk < 0:
            return -1, -1
    elif size[1] < 0:
        return size[0], -1
    else:
        chunk, right = size[1] + 1, 0
        left = size[0] // chunk * chunk if size[0] >= 0 else -1
    # The last frame of a chunk sees furthest back, its first furthest ahead.
    return left + chunk - 1 if left >= 0 else -1, chunk - 1 + right if right >= 0 else -1


def intervals(style: Style, size: Sequence[int], first: int, queries: int, device: torch.device) -> Tensor | None:
    """`(2, queries)`: the keys `[start, stop)` that each of the queries `first … first + queries - 1` may see, by absolute
    position, possibly beyond either end; None where all may see all."""
    import torch  # here, because configs import this module

    if all(s < 0 for s in size):
        return None
    i = torch.arange(first, first + queries, device=device)
    far = torch.full_like(i, 2**30)
    if style == "regular" or (style == "chunked_limited" and size[1] < 0):
        start = i - size[0] if size[0] >= 0 else -far
        stop = i + size[1] + 1 if style == "regular" and size[1] >= 0 else far
    elif style == "chunked_limited":
        chunk = size[1] + 1
        begin = i - i % chunk
        start = begin - size[0] // chunk * chunk if size[0] >= 0 else -far
        stop = begin + chunk
    else:
        begin = i - i % size[1] if size[1] > 0 else torch.zeros_like(i)
        start = begin - size[0] if size[0] >= 0 else -far
        stop = begin + size[1] + size[2] if size[1] > 0 and size[2] >= 0 else far
    return torch.stack([start, stop])
