"""Hypotheses that share their beginnings."""

from __future__ import annotations

from typing import Final

import torch
from attrs import evolve
from torch import Tensor

from sonant.protocols import Hypothesis
from sonant_asr.beams.merging import NOTHING

ROOT: Final = -1
"""The node of the empty text."""


class TokenTree:
    """A node for each token of each hypothesis, with the node before it. A beam holds nodes instead of texts."""

    def __init__(self) -> None:
        self._added: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        self._size = 0

    def add(self, parents: Tensor, labels: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
        """New nodes `(R,)` behind `parents`, with their labels and the frames they span."""
        self._added.append((parents, labels, starts, ends))
        first, self._size = self._size, self._size + len(parents)
        return torch.arange(first, self._size, device=parents.device)

    def hypotheses(self, nodes: Tensor, scores: Tensor, ranks: Tensor, n_best: int) -> list[Hypothesis]:
        """The best hypothesis of each utterance, with its alternatives, from nodes, scores and ranks `(B, K)`.

        The highest rank is the best. A score of `NOTHING` is no hypothesis. Several alignments of a text are one: the best.
        """
        columns = [torch.cat(column).tolist() for column in zip(*self._added, strict=True)] or [[], [], [], []]
        rows = zip(nodes.tolist(), scores.tolist(), ranks.argsort(dim=-1, descending=True, stable=True).tolist(), strict=True)
        return [_best(columns, ends, values, order, n_best) for ends, values, order in rows]


def _best(columns: list[list[int]], ends: list[int], scores: list[float], order: list[int], n_best: int) -> Hypothesis:
    found: dict[tuple[int, ...], Hypothesis] = {}
    for place in order:
        if len(found) == n_best:
            break
        if scores[place] > NOTHING:
            hypothesis = _walk(columns, ends[place], scores[place])
            found.setdefault(hypothesis.tokens, hypothesis)
    best, *others = found.values()
    return evolve(best, alternatives=tuple(others)) if others else best


def _walk(columns: list[list[int]], node: int, score: float) -> Hypothesis:
    parents, labels, starts, ends = columns
    path = []
    while node != ROOT:
        path.append(node)
        node = parents[node]
    path.reverse()
    return Hypothesis(
        tokens=tuple(labels[n] for n in path),
        starts=tuple(starts[n] for n in path),
        ends=tuple(ends[n] for n in path),
        score=score,
    )
