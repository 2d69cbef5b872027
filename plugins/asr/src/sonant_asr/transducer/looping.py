"""Label looping: greedy search of many utterances at once.

Bataev et al., "Label-Looping: Highly Efficient Decoding for Transducers", 2024: an inner loop moves every utterance over its
blanks to its next label, and the prediction network then runs once for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from attrs import frozen
from torch import Tensor

from sonant_asr.beams import fusing
from sonant_asr.confidence.config import ConfidenceConfig
from sonant_asr.confidence.measures import measure, together
from sonant_asr.fusion.scorer import TokenScorer
from sonant_asr.transducer.model import Transducer
from sonant_asr.transducer.networks import Predictions


@frozen
class Stream:
    """Where the search stands in a stream: frames seen, those at the beginning of the next piece that the last duration skips;
    what is predicted after the last label, a row, and the scorers' states there `(1, S)`."""

    seen: int
    skip: int
    prediction: Predictions
    states: Tensor

    @classmethod
    def start(cls, decoder: Transducer, scorers: Sequence[TokenScorer]) -> Stream:
        """Before the first frame."""
        device = next(decoder.parameters()).device
        return cls(0, 0, Predictions.start(decoder, 1, device), fusing.start(scorers, 1, device))


@frozen
class Found:
    """One label for each of some utterances: which, the label, its frame and its end, its log-probability."""

    rows: Tensor
    labels: Tensor
    starts: Tensor
    ends: Tensor
    scores: Tensor


@frozen
class Steps:
    """What was decided for some utterances at once: which, the frame, the label, maybe the blank, and how sure the head was."""

    rows: Tensor
    at: Tensor
    labels: Tensor
    confidence: Tensor


@frozen
class _Left:
    """Utterances that have no frames left: which, the frame at which they would go on, and what is predicted there."""

    rows: Tensor
    at: Tensor
    prediction: Predictions
    states: Tensor


class LabelLoop:
    """A search through one piece of each stream, `(B, T, D)` and `(B,)`: a row for each that has frames left.

    Frames are counted from the beginning of the piece. Nothing but the position and the prediction goes on to the next piece:
    a frame's labels are all found before it is left.
    """

    def __init__(
        self,
        decoder: Transducer,
        enc: Tensor,
        lens: Tensor,
        streams: Sequence[Stream],
        *,
        max_symbols: int,
        scorers: Sequence[TokenScorer] = (),
        confidence: ConfidenceConfig | None = None,
    ) -> None:
        self.decoder, self.max_symbols, self.scorers, self.confidence = decoder, max_symbols, scorers, confidence
        self.enc = decoder.joint.enc(enc)  # (B, T, J)
        self.durations = torch.tensor(decoder.durations, device=enc.device)
        self.rows = torch.arange(len(streams), device=enc.device)
        self.before, self.lens, self.stop = streams, lens, lens
        self.at = torch.tensor([stream.skip for stream in streams], device=enc.device, dtype=torch.long)
        self.last = torch.full_like(self.rows, -1)  # frame of the last label
        self.repeats = torch.zeros_like(self.rows)  # labels found at that frame
        self.prediction = Predictions.together([stream.prediction for stream in streams])
        self.states = torch.cat([stream.states for stream in streams])  # (R, S)
        self.gains = self.behind = self.states  # until the scorers are asked
        self.left: list[_Left] = []
        self.steps: list[Steps] = []  # with `confidence`

    def run(self) -> Iterator[Found]:
        """Yields a `Found` for each turn of the outer loop."""
        self._leave(self.at >= self.stop)
        while len(self.rows):
            self._listen()
            labels, steps, scores = self._next_labels()
            blank = labels == self.decoder.blank
            if blank.any():
                labels, steps, scores = labels[~blank], steps[~blank], scores[~blank]
                self._leave(blank)
            if not len(self.rows):
                return
            spans = steps if self.decoder.durations else torch.ones_like(steps)
            yield Found(self.rows, labels, self.at, self.at + spans, scores)
            self._advance(labels, steps)

    @torch.no_grad()
    def streams(self) -> list[Stream]:
        """Where each stream stands after `run`."""
        order = torch.cat([left.rows for left in self.left]).argsort()
        prediction = Predictions.together([left.prediction for left in self.left]).take(order)
        states = torch.cat([left.states for left in self.left])[order].split(1)
        skips = (torch.cat([left.at for left in self.left])[order] - self.lens).tolist()
        rows = torch.arange(len(order), device=order.device).split(1)
        return [
            Stream(before.seen + length, skip, prediction.take(row), state)
            for before, length, skip, row, state in zip(self.before, self.lens.tolist(), skips, rows, states, strict=True)
        ]

    def _listen(self) -> None:
        """What the scorers give for each label that may come next, and their states behind it."""
        if self.scorers:
            self.gains, self.behind = fusing.advance(self.scorers, self.states)  # (R, V), (R, V, S)

    def _next_labels(self) -> tuple[Tensor, Tensor, Tensor]:
        """Move every row over its blanks; rows whose frames run out keep the blank."""
        labels, steps, scores = self._best(slice(None), self.at)
        waiting = (labels == self.decoder.blank).nonzero().squeeze(1)
        at = self.at.clone()
        while len(waiting):
            at[waiting] += steps[waiting].clamp(min=1)
            waiting = waiting[at[waiting] < self.stop[waiting]]
            if not len(waiting):
                break
            found = self._best(waiting, at[waiting])
            labels[waiting], steps[waiting], scores[waiting] = found
            waiting = waiting[found[0] == self.decoder.blank]
        self.at = at
        return labels, steps, scores

    def _best(self, index: Tensor | slice, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The best label at a frame of the rows at `index`, how many frames it moves on, and its log-probability."""
        rows = self.rows[index]
        logits = self.decoder.joint.scores(self.enc[rows, at], self.prediction.vectors[index]).float()
        labelled, timed = logits.tensor_split([self.decoder.blank + 1], dim=-1)  # (R, V + 1), (R, durations)
        best, labels = labelled.max(-1)
        if self.scorers:
            best, labels = self._fused(labelled, best, labels, self.gains[index])
        scores = best - labelled.logsumexp(-1)
        if self.confidence:
            self.steps.append(Steps(rows, at, labels.clone(), _sure(labelled, timed, self.confidence)))
        if self.decoder.durations:
            return labels, self.durations[timed.argmax(-1)], scores
        return labels, torch.zeros_like(labels), scores

    def _fused(self, logits: Tensor, best: Tensor, labels: Tensor, gains: Tensor) -> tuple[Tensor, Tensor]:
        """Another label where scorers like it better. Whether it is the blank stays decided: they know nothing about blanks."""
        heard, choices = (logits[:, :-1] + gains).max(-1)
        blank = labels == self.decoder.blank
        return torch.where(blank, best, heard), torch.where(blank, labels, choices)

    def _advance(self, labels: Tensor, steps: Tensor) -> None:
        self.repeats = torch.where(self.at == self.last, self.repeats + 1, 1)
        self.last = self.at
        stuck = (steps == 0) & (self.repeats >= self.max_symbols)
        self.at = self.at + torch.where(stuck, 1, steps)
        self.prediction = self.prediction.after(self.decoder, labels)
        if self.scorers:
            self.states = self.behind[torch.arange(len(labels), device=labels.device), labels]
        self._leave(self.at >= self.stop)

    def _leave(self, gone: Tensor) -> None:
        """Set aside the rows that have no frames left."""
        out = gone.nonzero().squeeze(1)
        if not len(out):
            return
        self.left.append(_Left(self.rows[out], self.at[out], self.prediction.take(out), self.states[out]))
        stay = (~gone).nonzero().squeeze(1)
        for name in ("rows", "stop", "at", "last", "repeats", "states", "behind"):
            setattr(self, name, getattr(self, name)[stay])
        self.prediction = self.prediction.take(stay)


def _sure(labels: Tensor, durations: Tensor, config: ConfidenceConfig) -> Tensor:
    """Logits `(R, V + 1)` and `(R, durations)` to confidence `(R,)`."""
    found = measure(labels.log_softmax(-1), config)
    if not config.tdt_include_duration or not durations.shape[-1]:
        return found
    # NeMo reckons durations as if there were as many of them as labels.
    return together(found, measure(durations.log_softmax(-1), config, labels.shape[-1]), config)
