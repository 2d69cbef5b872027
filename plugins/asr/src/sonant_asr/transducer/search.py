"""Greedy search of RNN-T and TDT heads, batched by label looping.

Bataev et al., "Label-Looping: Highly Efficient Decoding for Transducers", 2024: an inner loop moves every utterance over its
blanks to its next label, and the prediction network then runs once for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from attrs import frozen
from torch import Tensor

from sonant.protocols import Hypothesis
from sonant_asr.transducer.config import TransducerGreedyConfig
from sonant_asr.transducer.model import LstmState, Transducer


class TransducerGreedy:
    """The best label at every step.

    RNN-T stays at a frame until a blank moves it on by one. TDT moves by the predicted duration; a blank always moves. After
    `max_symbols` labels at one frame the search moves on by itself. A token spans `[frame, frame + 1)` for RNN-T and
    `[frame, frame + duration)` for TDT; a hypothesis' score adds up the log-probabilities of its labels.
    """

    families: ClassVar = ("rnnt", "tdt")

    def __init__(self, config: TransducerGreedyConfig) -> None:
        self.config = config

    def __call__(self, decoder: Transducer, enc: Tensor, lens: Tensor) -> list[Hypothesis]:
        """`(B, T, D)`, `(B,)` to one hypothesis an utterance."""
        found = list(_Loop(decoder, enc, lens, self.config.max_symbols).run())
        return _collect(found, len(lens))


@frozen
class _Found:
    """One label for each of some utterances: which, the label, its frame and its end, its log-probability."""

    rows: Tensor
    labels: Tensor
    starts: Tensor
    ends: Tensor
    scores: Tensor


class _Loop:
    """The state of a search: one row for each utterance that has frames left."""

    def __init__(self, decoder: Transducer, enc: Tensor, lens: Tensor, max_symbols: int) -> None:
        self.decoder, self.max_symbols = decoder, max_symbols
        self.enc = decoder.joint.enc(enc)  # (B, T, J)
        self.durations = torch.tensor(decoder.durations, device=enc.device)
        self.rows = (lens > 0).nonzero().squeeze(1)
        self.stop = lens[self.rows]
        self.at = torch.zeros_like(self.rows)
        self.before = torch.full_like(self.rows, -1)  # frame of the last label
        self.repeats = torch.zeros_like(self.rows)  # labels found at that frame
        self.state: LstmState | None = None
        self.pred = self._predict(torch.full_like(self.rows, decoder.blank)) if len(self.rows) else enc.new_zeros(0, 0)

    def run(self) -> Iterator[_Found]:
        """Yields a `_Found` for each turn of the outer loop."""
        while len(self.rows):
            labels, steps, scores = self._next_labels()
            keep = (labels != self.decoder.blank).nonzero().squeeze(1)
            if len(keep) < len(labels):
                self._keep(keep)
                labels, steps, scores = labels[keep], steps[keep], scores[keep]
            if not len(self.rows):
                return
            spans = steps if self.decoder.durations else torch.ones_like(steps)
            yield _Found(self.rows, labels, self.at, self.at + spans, scores)
            self._advance(labels, steps)

    def _next_labels(self) -> tuple[Tensor, Tensor, Tensor]:
        """Move every row over its blanks; rows whose frames run out keep the blank."""
        labels, steps, scores = self._best(self.rows, self.at, self.pred)
        waiting = (labels == self.decoder.blank).nonzero().squeeze(1)
        at = self.at.clone()
        while len(waiting):
            at[waiting] += steps[waiting].clamp(min=1)
            waiting = waiting[at[waiting] < self.stop[waiting]]
            if not len(waiting):
                break
            found = self._best(self.rows[waiting], at[waiting], self.pred[waiting])
            labels[waiting], steps[waiting], scores[waiting] = found
            waiting = waiting[found[0] == self.decoder.blank]
        self.at = at
        return labels, steps, scores

    def _best(self, rows: Tensor, at: Tensor, pred: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The best label at a frame of each row, how many frames it moves on, and its log-probability."""
        logits = self.decoder.joint.scores(self.enc[rows, at], pred).float()  # (R, V + 1 + durations)
        count = self.decoder.blank + 1
        best, labels = logits[:, :count].max(-1)
        scores = best - logits[:, :count].logsumexp(-1)
        if self.decoder.durations:
            return labels, self.durations[logits[:, count:].argmax(-1)], scores
        return labels, torch.zeros_like(labels), scores

    def _advance(self, labels: Tensor, steps: Tensor) -> None:
        self.repeats = torch.where(self.at == self.before, self.repeats + 1, 1)
        self.before = self.at
        stuck = (steps == 0) & (self.repeats >= self.max_symbols)
        self.at = self.at + torch.where(stuck, 1, steps)
        alive = (self.at < self.stop).nonzero().squeeze(1)
        if len(alive) < len(labels):
            self._keep(alive)
            labels = labels[alive]
        if len(alive):
            self.pred = self._predict(labels)

    def _predict(self, labels: Tensor) -> Tensor:
        out, self.state = self.decoder.prediction.one(labels, self.state)
        return self.decoder.joint.pred(out)

    def _keep(self, index: Tensor) -> None:
        for name in ("rows", "stop", "at", "before", "repeats", "pred"):
            setattr(self, name, getattr(self, name)[index])
        if self.state is not None:
            self.state = (self.state[0][:, index], self.state[1][:, index])


def _collect(found: list[_Found], batch: int) -> list[Hypothesis]:
    if not found:
        return [Hypothesis(tokens=(), starts=(), ends=()) for _ in range(batch)]
    rows = torch.cat([f.rows for f in found]).tolist()
    columns = [torch.cat([getattr(f, name) for f in found]).tolist() for name in ("labels", "starts", "ends", "scores")]
    by_row: list[list[tuple[int, int, int, float]]] = [[] for _ in range(batch)]
    for row, entry in zip(rows, zip(*columns, strict=True), strict=True):
        by_row[row].append(entry)
    return [
        Hypothesis(
            tokens=tuple(e[0] for e in entries),
            starts=tuple(e[1] for e in entries),
            ends=tuple(e[2] for e in entries),
            score=sum(e[3] for e in entries),
        )
        for entries in by_row
    ]
