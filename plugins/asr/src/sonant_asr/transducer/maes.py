"""Modified adaptive expansion search of RNN-T and TDT heads.

Kim et al., "Accelerating RNN Transducer Inference via Adaptive Expansion Search", 2020. Frame by frame, each hypothesis takes up
to `maes_num_steps` labels, of which only those are tried that are nearly as likely as the best, and then a blank. A hypothesis
whose text begins with another's first gets what that one gives to the rest of it (Graves, "Sequence Transduction with Recurrent
Neural Networks", 2012).

As in NeMo, RNN-T and TDT differ. An RNN-T hypothesis is dropped where its labels make a text that was there before, which the
beginnings have counted. TDT hypotheses that came to the same text at the same frame are added up.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from attrs import evolve
from torch import Tensor

from sonant.files import Files
from sonant.protocols import Hypothesis, Tokenizer
from sonant_asr.beams import fusing
from sonant_asr.beams.merging import NOTHING, extended
from sonant_asr.beams.tree import ROOT, TokenTree
from sonant_asr.fusion.building import scorers_of
from sonant_asr.transducer.config import TransducerMaesConfig
from sonant_asr.transducer.model import Transducer
from sonant_asr.transducer.networks import Predictions, log_probs
from sonant_asr.transducer.rows import Rows, Trail


class TransducerMaes:
    """The best texts, of which `beam_size` are kept at every frame.

    A hypothesis' score is the log-probability of its labels, blanks and durations, summed over those of its alignments that the
    search saw. A language model and phrases add to the score of the labels that are tried, and do not decide which are.
    """

    families: ClassVar = ("rnnt", "tdt")

    def __init__(self, config: TransducerMaesConfig, *, tokenizer: Tokenizer | None = None, files: Files | None = None) -> None:
        self.config = config
        self.scorers = scorers_of(config.fusion, tokenizer, files)

    @torch.no_grad()
    def __call__(self, decoder: Transducer, enc: Tensor, lens: Tensor) -> list[Hypothesis]:
        """`(B, T, D)`, `(B,)` to one hypothesis an utterance, with its alternatives."""
        return _Search(self, decoder, enc, lens).run()


class _Search:
    """What is the same for all hypotheses, the tree that grows, and what the prediction network has said."""

    def __init__(self, search: TransducerMaes, decoder: Transducer, enc: Tensor, lens: Tensor) -> None:
        self.config, self.scorers, self.decoder = search.config, search.scorers, decoder
        self.enc = decoder.joint.enc(enc)  # (B, T, J)
        self.stop = lens.to(enc.device)
        self.durations = torch.tensor(decoder.durations, dtype=torch.long, device=enc.device)
        self.predictions = Predictions.start(decoder, len(lens), enc.device)
        self.tree = TokenTree()

    def run(self) -> list[Hypothesis]:
        """One hypothesis for each utterance."""
        rows = self._start()
        for t in range(int(self.stop.max()) if len(self.stop) else 0):
            here = (rows.at == t) & (t < self.stop[rows.utterances])
            if here.any():
                gone = self._frame(t, rows.take(here.nonzero().squeeze(1)))
                rows = self._kept(Rows.together([rows.take((~here).nonzero().squeeze(1)), *gone]))
        return self._hypotheses(rows)

    def _start(self) -> Rows:
        """A row for each utterance."""
        utterances = torch.arange(len(self.stop), device=self.enc.device)
        none = torch.zeros_like(utterances)
        return Rows(
            utterances=utterances,
            scores=none.float(),
            keys=none,
            counts=none,
            nodes=none + ROOT,
            at=none,
            sources=utterances,
            untold=none - 1,
            states=fusing.start(self.scorers, len(utterances), utterances.device),
            trail=Trail.start(self.predictions.vectors, self.config.maes_prefix_alpha),
        )

    def _kept(self, rows: Rows) -> Rows:
        """The best of each utterance. The prediction network is told their labels, and forgets the others."""
        if self.decoder.durations:
            rows = rows.merged()
        rows = rows.take((rows.ranks() < self.config.beam_size).nonzero().squeeze(1))
        index = (rows.untold >= 0).nonzero().squeeze(1)
        self.predictions = self.predictions.take(rows.sources)
        if len(index):
            told = self.predictions.take(index).after(self.decoder, rows.untold[index])
            self.predictions = self.predictions.replace(index, told)
        return evolve(rows, sources=torch.arange(len(rows.at), device=index.device), untold=torch.full_like(rows.untold, -1))

    def _told(self, rows: Rows) -> Rows:
        """The same, after the prediction network was told the last label of each, and forgot nothing."""
        first = len(self.predictions.vectors)
        told = self.predictions.take(rows.sources).after(self.decoder, rows.untold)
        self.predictions = Predictions.together([self.predictions, told])
        sources = torch.arange(first, first + len(rows.at), device=rows.at.device)
        return evolve(rows, sources=sources, untold=torch.full_like(rows.untold, -1))

    def _hypotheses(self, rows: Rows) -> list[Hypothesis]:
        places = (rows.utterances, rows.ranks())
        size = (len(self.stop), self.config.beam_size)
        scores = rows.scores.new_full(size, NOTHING).index_put(places, rows.scores)
        nodes = rows.nodes.new_full(size, ROOT).index_put(places, rows.nodes)
        counts = rows.counts.new_zeros(size).index_put(places, rows.counts)
        ranks = scores / (counts + 1) if self.config.score_norm else scores
        return self.tree.hypotheses(nodes, scores, ranks, self.config.n_best)

    def _frame(self, t: int, rows: Rows) -> list[Rows]:
        """The hypotheses at frame `t` go on to a later one."""
        if not self.decoder.durations or 0 in self.decoder.durations:
            rows = evolve(rows, scores=self._with_beginnings(t, rows))
        before = extended(rows.keys, rows.utterances)
        gone: list[Rows] = []
        for left in reversed(range(self.config.maes_num_steps)):
            blanks, labelled = self._expanded(t, rows, before)
            moved = labelled.at > t
            gone += [blanks, labelled.take(moved.nonzero().squeeze(1))]
            rows = labelled.take((~moved).nonzero().squeeze(1))
            if not len(rows.at):
                break
            if left and self.decoder.durations:
                rows = rows.merged()
            rows = self._told(rows)
            if not left:
                gone.append(self._blanked(t, rows))
        return gone

    def _with_beginnings(self, t: int, rows: Rows) -> Tensor:
        """Scores `(R,)` with what hypotheses give that are a beginning, shorter by up to `maes_prefix_alpha` labels."""
        scores = rows.scores
        mates = rows.utterances[:, None] == rows.utterances
        for length in range(1, self.config.maes_prefix_alpha + 1):
            found = mates & (rows.trail.keys[:, length - 1, None] == rows.keys) & (rows.counts[:, None] >= length)
            index = found.any(1).nonzero().squeeze(1)
            if len(index):
                given = rows.scores[found[index].long().argmax(1)] + self._rest(t, rows.take(index), length)
                scores = scores.index_copy(0, index, torch.logaddexp(scores[index], given))
        return scores

    def _rest(self, t: int, rows: Rows, length: int) -> Tensor:
        """What the last `length` labels score `(R,)` if all are taken at frame `t`."""
        trail = rows.trail
        labels, durations = log_probs(self.decoder, self.enc[rows.utterances, t][:, None], trail.vectors[:, :length])
        scores = labels.gather(-1, trail.labels[:, :length, None]).squeeze(-1) + trail.gains[:, :length]
        if self.decoder.durations:
            scores = scores + durations[..., self.decoder.durations.index(0)]
        return scores.sum(1)

    def _log_probs(self, t: int, rows: Rows) -> tuple[Tensor, Tensor]:
        """Of labels `(R, V + 1)` and durations at frame `t`."""
        return log_probs(self.decoder, self.enc[rows.utterances, t], self.predictions.vectors[rows.sources])

    def _expanded(self, t: int, rows: Rows, before: Tensor) -> tuple[Rows, Rows]:
        """Those that take a blank, and those that take a label."""
        labels, durations = self._log_probs(t, rows)
        width = min(self.config.beam_size + self.config.maes_expansion_beta, labels.shape[-1])
        values, labels = labels.topk(width)
        steps = torch.zeros_like(labels)
        if self.decoder.durations:
            values, places = (values[:, :, None] + durations[:, None]).flatten(1).topk(width)
            labels = labels.gather(1, places // len(self.durations))
            steps = self.durations[places % len(self.durations)]
        parents, places = (values >= values[:, :1] - self.config.maes_expansion_gamma).nonzero(as_tuple=True)
        values, labels, steps = values[parents, places], labels[parents, places], steps[parents, places]
        blank = labels == self.decoder.blank
        spoken = ~blank
        if not self.decoder.durations:
            spoken &= ~torch.isin(extended(extended(rows.keys[parents], labels), rows.utterances[parents]), before)
        blanks = rows.take(parents[blank]).gone_on(values[blank], steps[blank].clamp(min=1))
        return blanks, self._labelled(t, rows, parents[spoken], labels[spoken], values[spoken], steps[spoken])

    def _labelled(self, t: int, rows: Rows, parents: Tensor, labels: Tensor, values: Tensor, steps: Tensor) -> Rows:
        """Some rows, each with one more label."""
        new = rows.take(parents).gone_on(values, steps)
        gains = torch.zeros_like(values)
        if self.scorers:
            all_gains, behind = fusing.advance(self.scorers, rows.states)
            gains = all_gains[parents, labels]
            new = evolve(new, scores=new.scores + gains, states=behind[parents, labels])
        starts = torch.full_like(labels, t)
        return evolve(
            new,
            keys=extended(new.keys, labels),
            counts=new.counts + 1,
            nodes=self.tree.add(new.nodes, labels, starts, starts + (steps if self.decoder.durations else 1)),
            untold=labels,
            trail=new.trail.after(new.keys, self.predictions.vectors[new.sources], labels, gains),
        )

    def _blanked(self, t: int, rows: Rows) -> Rows:
        """Each row with a blank of its likeliest duration."""
        labels, durations = self._log_probs(t, rows)
        values, steps = labels[:, self.decoder.blank], torch.ones_like(rows.at)
        if self.decoder.durations:
            likeliest = durations.argmax(1)
            least = min(self.decoder.durations, key=lambda duration: duration or math.inf)
            likeliest = torch.where(self.durations[likeliest] == 0, self.decoder.durations.index(least), likeliest)
            values = values + durations.gather(1, likeliest[:, None]).squeeze(1)
            steps = self.durations[likeliest].clamp(min=1)
        return rows.gone_on(values, steps)
