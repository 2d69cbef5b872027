"""Beam search of CTC heads.

Graves and Jaitly, "Towards End-To-End Speech Recognition with Recurrent Neural Networks", 2014; Hannun et al., "First-Pass Large
Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent DNNs", 2014. A place in the beam is a text and what its
last frame was, a blank or its last label: these go on differently.
"""

from __future__ import annotations

from itertools import chain
from typing import ClassVar

import torch
from torch import Tensor

from sonant.files import Files
from sonant.protocols import Hypothesis, Tokenizer
from sonant_asr.beams import fusing
from sonant_asr.beams.merging import NOTHING, extended, merged
from sonant_asr.beams.tree import ROOT, TokenTree
from sonant_asr.ctc.config import CtcBeamConfig
from sonant_asr.ctc.model import CtcHead
from sonant_asr.fusion.building import scorers_of

_BLOCK = 1024  # frames whose scores of all labels are there at once


class CtcBeam:
    """The best texts, of which `beam_size` are followed from frame to frame.

    With `merge: max`, a hypothesis' score is the log-probability of its best alignment; with `sum`, of all alignments that the
    beam held. Added to it are `beam_beta` for each label, and what a language model and phrases give. Times are as the greedy
    search gives them; where alignments meet, those of the likelier.
    """

    families: ClassVar = ("ctc",)

    def __init__(self, config: CtcBeamConfig, *, tokenizer: Tokenizer | None = None, files: Files | None = None) -> None:
        self.config = config
        self.scorers = scorers_of(config.fusion, tokenizer, files)

    @torch.no_grad()
    def __call__(self, decoder: CtcHead, enc: Tensor, lens: Tensor) -> list[Hypothesis]:
        """`(B, T, D)`, `(B,)` to one hypothesis an utterance, with its alternatives."""
        beam = _Beam(self, decoder.blank, len(lens), enc.device)
        order = lens.argsort(descending=True, stable=True)  # those that still have frames stand in front
        blocks = (decoder(block).float().log_softmax(-1)[order].unbind(1) for block in enc.split(_BLOCK, dim=1))
        ends = lens.tolist()
        for t, frame in zip(range(max(ends, default=0)), chain.from_iterable(blocks), strict=False):
            beam.step(t, frame[: sum(end > t for end in ends)])
        found = beam.hypotheses()
        return [found[place] for place in order.argsort().tolist()]


class _Beam:
    """`B` beams of `K` places. `last` is what a hypothesis' last frame was, a label or the blank."""

    def __init__(self, search: CtcBeam, blank: int, batch: int, device: torch.device) -> None:
        self.config, self.scorers, self.blank = search.config, search.scorers, blank
        size = (batch, self.config.beam_size)
        self.scores = torch.full(size, NOTHING, device=device)
        self.scores[:, 0] = 0.0
        self.keys = torch.zeros(size, dtype=torch.long, device=device)
        self.last = torch.full_like(self.keys, blank)
        self.nodes = torch.full_like(self.keys, ROOT)
        self.seen = torch.full_like(self.keys, -1)  # the frame at which the last label was first seen
        self.states = fusing.start(self.scorers, batch * size[1], device).view(*size, len(self.scorers))
        self.tree = TokenTree()

    def step(self, t: int, frame: Tensor) -> None:
        """Frame `t` of the first utterances, log-probabilities `(b, V + 1)`."""
        count, labels = frame.shape
        every = torch.arange(labels, device=frame.device)
        new = (every != self.last[:count, :, None]) & (every != self.blank)  # (b, K, V + 1)
        total = self.scores[:count, :, None] + frame[:, None]
        gains, behind = self._gains(count)
        scores, places = (total + torch.where(new, gains, 0.0)).flatten(1).topk(self.config.beam_size)
        scores = scores.masked_fill(scores <= scores[:, :1] - self.config.beam_threshold, NOTHING)
        parents, found = places // labels, places % labels
        self._move(t, parents, found, new.flatten(1).gather(1, places), behind)
        same = (self.keys[:count, :, None] == self.keys[:count, None]) & (found[:, :, None] == found[:, None])
        self.scores[:count] = merged(scores, same, self.config.merge)

    def _gains(self, count: int) -> tuple[Tensor, Tensor | None]:
        """What a new label adds to the score, and the scorers' states behind each."""
        bonus = self.scores.new_full((1, 1, self.blank + 1), self.config.beam_beta)
        if not self.scorers:
            return bonus, None
        gains, behind = fusing.advance(self.scorers, self.states[:count].flatten(0, 1))
        gains = torch.nn.functional.pad(gains, (0, 1)).view(count, -1, self.blank + 1)
        return bonus + gains, behind.view(count, -1, *behind.shape[1:])

    def _move(self, t: int, parents: Tensor, labels: Tensor, new: Tensor, behind: Tensor | None) -> None:
        """Put the extended hypotheses in the places of the beam."""
        count = len(parents)
        for column in (self.keys, self.nodes, self.seen):
            column[:count] = column[:count].gather(1, parents)
        self.last[:count] = labels
        rows, places = new.nonzero(as_tuple=True)
        added, seen = labels[rows, places], self.seen[rows, places]
        starts = torch.where(seen < 0, max(0, t - 1), seen)  # as of `timestamps.ctc_spans`
        ends = torch.full_like(starts, t)
        self.nodes[rows, places] = self.tree.add(self.nodes[rows, places], added, starts, ends)
        self.keys[rows, places] = extended(self.keys[rows, places], added)
        self.seen[rows, places] = t
        if behind is not None:
            moved = self.states[torch.arange(count, device=parents.device)[:, None], parents]
            moved[rows, places] = behind[rows, parents[rows, places], added]
            self.states[:count] = moved

    def hypotheses(self) -> list[Hypothesis]:
        """One for each beam."""
        scores = self.scores
        if self.scorers:
            scores = scores + fusing.final(self.scorers, self.states.flatten(0, 1)).view_as(scores)
        scores = merged(scores, self.keys[:, :, None] == self.keys[:, None], self.config.merge)
        return self.tree.hypotheses(self.nodes, scores, scores, self.config.n_best)
