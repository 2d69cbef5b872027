"""Hypotheses of many utterances as rows, however many each utterance has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from attrs import evolve, frozen
from torch import Tensor

from sonant_asr.beams.merging import extended


@frozen
class Trail:
    """The last labels of each row, the latest first: how the text began before each, its key `(R, A)` and what was predicted
    `(R, A, J)`; the labels and what scorers gave for them `(R, A)`."""

    keys: Tensor
    vectors: Tensor
    labels: Tensor
    gains: Tensor

    @classmethod
    def start(cls, vectors: Tensor, length: int) -> Self:
        """No labels yet."""
        keys = torch.zeros(len(vectors), length, dtype=torch.long, device=vectors.device)
        gains = torch.zeros(len(vectors), length, device=vectors.device)
        return cls(keys, vectors[:, None].expand(-1, length, -1), keys, gains)

    def take(self, index: Tensor) -> Self:
        """The rows at `index`."""
        return type(self)(self.keys[index], self.vectors[index], self.labels[index], self.gains[index])

    def after(self, keys: Tensor, vectors: Tensor, labels: Tensor, gains: Tensor) -> Self:
        """One label more, and the earliest forgotten."""
        latest = (keys, vectors, labels, gains)
        trail = (self.keys, self.vectors, self.labels, self.gains)
        length = self.keys.shape[1]
        return type(self)(*(torch.cat([new[:, None], old], dim=1)[:, :length] for new, old in zip(latest, trail, strict=True)))

    @classmethod
    def together(cls, parts: Sequence[Self]) -> Self:
        """The rows of all, in order."""
        columns = zip(*((part.keys, part.vectors, part.labels, part.gains) for part in parts), strict=True)
        return cls(*(torch.cat(column) for column in columns))


@frozen(kw_only=True)
class Rows:
    """A hypothesis in each row: of which utterance, its score, the key of its text, the number of its labels, its node in the
    tree, its frame; where its prediction stands, and the label that this does not know of yet, or -1, all `(R,)`; the states
    of scorers `(R, S)`; its last labels."""

    utterances: Tensor
    scores: Tensor
    keys: Tensor
    counts: Tensor
    nodes: Tensor
    at: Tensor
    sources: Tensor
    untold: Tensor
    states: Tensor
    trail: Trail

    def take(self, index: Tensor) -> Rows:
        """The rows at `index`, which may repeat."""
        return Rows(**{name: getattr(self, name)[index] for name in _COLUMNS}, trail=self.trail.take(index))

    @staticmethod
    def together(parts: Sequence[Rows]) -> Rows:
        """The rows of all, in order."""
        columns = {name: torch.cat([getattr(part, name) for part in parts]) for name in _COLUMNS}
        return Rows(**columns, trail=Trail.together([part.trail for part in parts]))

    def gone_on(self, values: Tensor, steps: Tensor) -> Rows:
        """With `values` added to the scores, `steps` frames later."""
        return evolve(self, scores=self.scores + values, at=self.at + steps)

    def merged(self) -> Rows:
        """Those of one text and frame as one, the best, with the score of all together."""
        order = self.scores.argsort(descending=True, stable=True)
        same = extended(extended(self.keys, self.utterances), self.at)[order]
        groups = same.unique(return_inverse=True)[1]  # (R,)
        places = torch.arange(len(groups), device=groups.device)
        first = torch.full_like(places, len(groups)).scatter_reduce(0, groups, places, "amin")  # of each group; the rest unused
        best = order[first[: int(groups.max()) + 1]] if len(groups) else order
        relative = (self.scores[order] - self.scores[best][groups]).exp()
        total = relative.new_zeros(len(best)).index_add(0, groups, relative).log()
        return evolve(self.take(best), scores=self.scores[best] + total)

    def ranks(self) -> Tensor:
        """The place `(R,)` of each among those of its utterance, by score, from 0."""
        order = self.scores.argsort(descending=True, stable=True)
        order = order[self.utterances[order].argsort(stable=True)]
        utterances = self.utterances[order]
        places = torch.arange(len(order), device=order.device) - torch.searchsorted(utterances, utterances)
        return torch.empty_like(places).scatter(0, order, places)


_COLUMNS = ("utterances", "scores", "keys", "counts", "nodes", "at", "sources", "untold", "states")
