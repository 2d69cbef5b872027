"""Batched beam search of RNN-T and TDT heads.

Alignment-length synchronous decoding (Saon et al., "Alignment-Length Synchronous Decoding for RNN Transducer", 2020) of many
utterances at once, where the labels at a frame are limited instead of the length of the text. At every step each hypothesis takes
a label or a blank, the best of all stay, and those that came to the same text at the same frame become one.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from sonant.files import Files
from sonant.protocols import Hypothesis, Tokenizer
from sonant_asr.beams import fusing
from sonant_asr.beams.merging import NOTHING, extended, merged
from sonant_asr.beams.tree import ROOT, TokenTree
from sonant_asr.fusion.building import scorers_of
from sonant_asr.transducer.config import TransducerBeamConfig
from sonant_asr.transducer.model import Transducer
from sonant_asr.transducer.networks import Predictions, log_probs

_NO_LABEL = -1  # what a hypothesis takes that is at the end of its utterance
_LEAST = 1e-2  # the least that all labels together count for against the blank, as NeMo has it


class TransducerBeam:
    """The best texts, of which `beam_size` are followed from step to step.

    A hypothesis' score is the log-probability of its labels, blanks and durations, summed over those of its alignments that the
    beam held; what a language model and phrases give is in it. Times are as the greedy search gives them; where alignments meet,
    those of the likelier.
    """

    families: ClassVar = ("rnnt", "tdt")

    def __init__(self, config: TransducerBeamConfig, *, tokenizer: Tokenizer | None = None, files: Files | None = None) -> None:
        self.config = config
        self.scorers = scorers_of(config.fusion, tokenizer, files)

    @torch.no_grad()
    def __call__(self, decoder: Transducer, enc: Tensor, lens: Tensor) -> list[Hypothesis]:
        """`(B, T, D)`, `(B,)` to one hypothesis an utterance, with its alternatives."""
        return _Beam(self, decoder, enc, lens).run()


class _Beam:
    """`B` beams of `K` places; those whose hypotheses are all at the end of their utterance are put aside."""

    def __init__(self, search: TransducerBeam, decoder: Transducer, enc: Tensor, lens: Tensor) -> None:
        self.config, self.scorers, self.decoder = search.config, search.scorers, decoder
        self.enc = decoder.joint.enc(enc)  # (B, T, J)
        self.durations = torch.tensor(decoder.durations, device=enc.device)
        self.utterances = torch.arange(len(lens), device=enc.device)
        self.stop = lens.to(enc.device)[:, None]
        size = (len(lens), self.config.beam_size)
        self.scores = torch.full(size, NOTHING, device=enc.device)
        self.scores[:, 0] = 0.0
        self.keys = torch.zeros(size, dtype=torch.long, device=enc.device)
        self.nodes = torch.full_like(self.keys, ROOT)
        self.at = torch.zeros_like(self.keys)  # frame
        self.counts = torch.zeros_like(self.keys)  # labels
        self.repeats = torch.zeros_like(self.keys)  # labels at this frame
        self.predictions = Predictions.start(decoder, self.keys.numel(), enc.device)
        self.states = fusing.start(self.scorers, self.keys.numel(), enc.device)
        self.tree = TokenTree()
        self.found = (self.nodes.clone(), self.scores.clone(), self.counts.clone())

    def run(self) -> list[Hypothesis]:
        """One hypothesis for each utterance."""
        self._set_aside()
        while len(self.utterances):
            self._step()
            self._set_aside()
        nodes, scores, counts = self.found
        return self.tree.hypotheses(
            nodes, scores, scores / (counts + 1) if self.config.score_norm else scores, self.config.n_best
        )

    @property
    def _running(self) -> Tensor:
        return (self.at < self.stop) & (self.scores > NOTHING)

    def _set_aside(self) -> None:
        running = self._running.any(1)
        if running.all():
            return
        for whole, column in zip(self.found, (self.nodes, self.scores, self.counts), strict=True):
            whole[self.utterances] = column
        index = running.nonzero().squeeze(1)
        places = torch.arange(self.keys.numel(), device=index.device).view_as(self.keys)[index].flatten()
        for name in ("utterances", "stop", "scores", "keys", "nodes", "at", "counts", "repeats"):
            setattr(self, name, getattr(self, name)[index])
        self.predictions, self.states = self.predictions.take(places), self.states[places]

    def _step(self) -> None:
        values, labels, steps, behind = self._candidates()
        scores, places = (self.scores[..., None] + values).flatten(1).topk(self.config.beam_size)
        parents = places // values.shape[-1]
        self._move(scores, parents, labels.flatten(1).gather(1, places), steps.flatten(1).gather(1, places), behind)

    def _candidates(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """What each hypothesis may take: log-probabilities, labels, and frames to go on, `(b, K, C)`; and the scorers' states."""
        frames = torch.minimum(self.at, self.stop - 1)
        rows = self.enc[self.utterances[:, None], frames].flatten(0, 1)
        labels, durations = (x.view(*self.at.shape, -1) for x in log_probs(self.decoder, rows, self.predictions.vectors))
        fused, behind = self._fused(labels)
        pruned_by = fused if self.config.pruning_mode == "late" else labels
        best = pruned_by.topk(min(self.config.beam_size, labels.shape[-1])).indices
        values = fused.gather(-1, best)
        blank = pruned_by[..., self.decoder.blank]
        if self.decoder.durations:
            values, best, steps = self._with_durations(values, best, durations)
            blank = blank + durations.amax(-1)
        else:
            steps = (best == self.decoder.blank).long()
        return *self._limited(values, best, steps, blank), behind

    def _with_durations(self, values: Tensor, labels: Tensor, durations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The best pairs of a label and a duration; a blank goes on by a frame at least."""
        both = (values[..., None] + durations[..., None, :]).flatten(-2)
        values, places = both.topk(min(self.config.beam_size, both.shape[-1]))
        labels = labels.gather(-1, places // len(self.durations))
        steps = self.durations[places % len(self.durations)]
        return values, labels, torch.where(labels == self.decoder.blank, steps.clamp(min=1), steps)

    def _limited(self, values: Tensor, labels: Tensor, steps: Tensor, blank: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """At the end of the utterance nothing more is taken; after `max_symbols` labels at a frame, a blank."""
        running = self._running
        full = running & (self.repeats >= self.config.max_symbols)
        only = torch.where(full, blank, 0.0)  # the one candidate, where there is no choice
        first = torch.arange(values.shape[-1], device=values.device) == 0
        values = torch.where((running & ~full)[..., None], values, torch.where(first, only[..., None], NOTHING))
        labels = torch.where(full[..., None], self.decoder.blank, torch.where(running[..., None], labels, _NO_LABEL))
        steps = torch.where(full[..., None], steps.clamp(min=1), torch.where(running[..., None], steps, 0))
        return values, labels, steps

    def _fused(self, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities `(b, K, V + 1)` with what the scorers give, and their states behind each label `(b * K, V, S)`."""
        if not self.scorers:
            return labels, None
        gains, behind = fusing.advance(self.scorers, self.states)
        heard, blank = labels[..., :-1] + gains.view(*self.at.shape, -1), labels[..., -1:]
        if self.config.blank_lm_score_mode == "lm_weighted_full":
            weight = fusing.weight(self.config.fusion)
            heard = heard + weight * torch.log1p(-blank.exp().clamp(max=1.0 - _LEAST))
            blank = blank * (1 + weight)
        return torch.cat([heard, blank], dim=-1), behind

    def _move(self, scores: Tensor, parents: Tensor, labels: Tensor, steps: Tensor, behind: Tensor | None) -> None:
        """Put the extended hypotheses in the places of the beam."""
        for name in ("keys", "nodes", "at", "counts", "repeats"):
            setattr(self, name, getattr(self, name).gather(1, parents))
        spoken = (labels != _NO_LABEL) & (labels != self.decoder.blank)
        starts, self.at = self.at, self.at + steps
        self.keys = torch.where(spoken, extended(self.keys, labels), self.keys)
        self.repeats = torch.where(steps > 0, 0, self.repeats + spoken)
        self.counts = self.counts + spoken
        same = (self.keys[:, :, None] == self.keys[:, None]) & (self.at[:, :, None] == self.at[:, None])
        self.scores = merged(scores, same, "sum")

        spoken = spoken & (self.scores > NOTHING)
        index = spoken.flatten().nonzero().squeeze(1)
        taken, start = labels[spoken], starts[spoken]
        ends = start + (steps[spoken] if self.decoder.durations else 1)
        self.nodes[spoken] = self.tree.add(self.nodes[spoken], taken, start, ends)
        places = (parents + torch.arange(len(parents), device=parents.device)[:, None] * parents.shape[1]).flatten()
        self.predictions, self.states = self.predictions.take(places), self.states[places]
        if len(index):
            self.predictions = self.predictions.replace(index, self.predictions.take(index).after(self.decoder, taken))
        if behind is not None:
            self.states[index] = behind[places[index], taken]
