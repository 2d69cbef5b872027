"""Forced alignment: at which frames labels that are known were said, as a CTC model has it.

The best path through the labels with blanks around each (Viterbi, 1967; Graves et al., 2006), for many utterances at once: the
only loop is over time.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

Spans = list[tuple[int, int]]


def align(log_probs: Tensor, lens: Tensor, labels: Sequence[Sequence[int]], blank: int) -> list[Spans | None]:
    """The frames `[start, end)` of each label, on the best path.

    Args:
        log_probs: `(B, T, V)` of each label at every frame, the blank included.
        lens: `(B,)` frames.
        labels: of each utterance, without blanks.
        blank: its id.

    Returns:
        For each utterance the spans of its labels, or None where it has too few frames for them.
    """
    found: list[Spans | None] = [None] * len(labels)
    frames = lens.tolist()
    rows = [n for n, one in enumerate(labels) if _needed(one) <= frames[n] and frames[n]]
    if rows:
        paths = _paths(log_probs[rows, : max(frames[n] for n in rows)], lens[rows], [labels[n] for n in rows], blank)
        for row, path in zip(rows, paths.tolist(), strict=True):
            found[row] = _spans(path[: frames[row]], len(labels[row]))
    return found


def _needed(labels: Sequence[int]) -> int:
    """The frames it takes to say them: between equal ones there is a blank."""
    return len(labels) + sum(a == b for a, b in pairwise(labels))


def _paths(log_probs: Tensor, lens: Tensor, labels: Sequence[Sequence[int]], blank: int) -> Tensor:
    """`(B, T)` the place at every frame, of the places `0 … 2 U`: blanks at the even ones, labels at the odd."""
    batch, frames = log_probs.shape[:2]
    device = log_probs.device
    counts = torch.tensor([len(one) for one in labels], device=device)
    places = torch.full((batch, 2 * int(counts.max()) + 1), blank, device=device)
    for row, one in enumerate(labels):
        places[row, 1 : 2 * len(one) : 2] = torch.tensor(one, dtype=torch.long, device=device)
    heard = log_probs.float().gather(2, places[:, None].expand(-1, frames, -1))  # (B, T, S)
    may_skip = torch.zeros_like(places, dtype=torch.bool)  # the blank between two labels that differ
    may_skip[:, 3::2] = places[:, 3::2] != places[:, 1:-2:2]
    scores = torch.full_like(heard[:, 0], -torch.inf)
    scores[:, :2] = heard[:, 0, :2]
    steps = []
    for t in range(1, frames):
        forward = torch.nn.functional.pad(scores, (1, 0), value=-torch.inf)[:, :-1]
        over = torch.nn.functional.pad(scores, (2, 0), value=-torch.inf)[:, :-2].masked_fill(~may_skip, -torch.inf)
        best, step = torch.stack([scores, forward, over]).max(0)
        going = (t < lens)[:, None]
        scores = torch.where(going, best + heard[:, t], scores)
        steps.append(torch.where(going, step, 0).to(torch.int8))
    last = 2 * counts[:, None]
    ends = torch.cat([(last - 1).clamp(min=0), last], dim=1)  # a label or the blank behind it
    at = ends.gather(1, scores.gather(1, ends).argmax(1, keepdim=True))  # (B, 1)
    path = [at]
    for step in reversed(steps):
        at = at - step.gather(1, at)
        path.append(at)
    return torch.cat(path[::-1], dim=1)


def _spans(path: Sequence[int], count: int) -> Spans:
    starts, ends = [0] * count, [0] * count
    for frame, place in enumerate(path):
        if place % 2:
            label = place // 2
            starts[label] = starts[label] if ends[label] else frame
            ends[label] = frame + 1
    return list(zip(starts, ends, strict=True))
