"""Attention contexts, as intervals, against masks written out frame by frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from sonant_encoders.blocks import context

FRAMES = 23


def sees(style: str, size: list[int]) -> Callable[[int, int], bool]:
    """Whether frame i sees frame j."""
    left, middle, right = (size[0], size[1], size[-1])

    def regular(i: int, j: int) -> bool:
        return (left < 0 or j >= i - left) and (right < 0 or j <= i + right)

    def chunked(i: int, j: int) -> bool:
        if right < 0:
            return left < 0 or j >= i - left
        size = right + 1
        chunks_back = i // size - j // size
        return chunks_back >= 0 and (left < 0 or chunks_back <= left // size)

    def chunked_with_right(i: int, j: int) -> bool:
        chunk = i // middle
        return chunk * middle - left <= j <= chunk * middle + middle - 1 + right

    return {"regular": regular, "chunked_limited": chunked, "chunked_limited_with_rc": chunked_with_right}[style]


CONTEXTS: list[tuple[Any, list[int]]] = [
    ("regular", [0, 0]),
    ("regular", [3, 3]),
    ("regular", [5, 1]),
    ("regular", [0, 4]),
    ("regular", [-1, 0]),
    ("regular", [-1, 2]),
    ("regular", [4, -1]),
    ("regular", [100, 100]),
    ("chunked_limited", [0, 0]),
    ("chunked_limited", [0, 3]),
    ("chunked_limited", [4, 0]),
    ("chunked_limited", [8, 3]),
    ("chunked_limited", [6, 1]),
    ("chunked_limited", [-1, 4]),
    ("chunked_limited", [70, 13]),
    ("chunked_limited", [5, -1]),
    ("chunked_limited_with_rc", [4, 3, 2]),
    ("chunked_limited_with_rc", [0, 1, 0]),
    ("chunked_limited_with_rc", [7, 5, 9]),
]


@pytest.mark.parametrize("first", [0, 1, 8, 13])
@pytest.mark.parametrize(("style", "size"), CONTEXTS, ids=str)
def test_intervals_are_the_masks(style: Any, size: list[int], first: int) -> None:
    """`first` is where the queries of a later piece of a stream begin."""
    context.check(style, size)
    start, stop = context.intervals(style, size, first, FRAMES - first, torch.device("cpu"))  # type: ignore[misc]
    j = torch.arange(FRAMES)
    found = (j >= start[:, None]) & (j < stop[:, None])
    assert found.tolist() == [[sees(style, size)(i, j) for j in range(FRAMES)] for i in range(first, FRAMES)]


@pytest.mark.parametrize(("style", "size"), CONTEXTS, ids=str)
def test_the_reach_is_how_far_any_frame_sees(style: Any, size: list[int]) -> None:
    i = torch.arange(1000, 1200)
    start, stop = context.intervals(style, size, 1000, 200, torch.device("cpu"))  # type: ignore[misc]
    furthest = [int((i - start).max()), int((stop - 1 - i).max())]
    assert list(context.reach(style, size)) == [-1 if frames > 2000 else frames for frames in furthest]


@pytest.mark.parametrize(
    ("style", "size"), [("regular", [-1, -1]), ("chunked_limited", [-1, -1]), ("chunked_limited_with_rc", [-1, -1, -1])]
)
def test_unlimited_is_no_mask(style: Any, size: list[int]) -> None:
    context.check(style, size)
    assert context.intervals(style, size, 0, FRAMES, torch.device("cpu")) is None
    assert context.reach(style, size) == (-1, -1)


@pytest.mark.parametrize(
    ("style", "size", "message"),
    [
        ("regular", [1], r"att_context_size \[1\] of style 'regular' must be \[left, right\] in frames, -1 for unlimited"),
        ("regular", [1, 2, 3], r"must be \[left, right\]"),
        ("regular", [-2, 0], "-1 for unlimited"),
        ("regular", [1.5, 0], r"must be \[left, right\]"),
        ("chunked_limited", [5, 1], "left context 5 is not a whole number of chunks of 2 frames"),
        ("chunked_limited_with_rc", [4, 3], r"must be \[left, chunk, right\]"),
        ("chunked_limited_with_rc", [4, 0, 3], "a chunk has at least one frame"),
    ],
)
def test_contexts_that_mean_nothing_are_refused(style: Any, size: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        context.check(style, size)
