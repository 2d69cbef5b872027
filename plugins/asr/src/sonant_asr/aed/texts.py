"""Writing the texts of many utterances token by token, several side by side for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from attrs import frozen
from torch import Tensor
from torch.nn.functional import pad

from sonant.protocols import Hypothesis
from sonant_asr.aed.model import AedHead, Tokens
from sonant_asr.beams import fusing
from sonant_asr.beams.merging import NOTHING
from sonant_asr.beams.tree import ROOT, TokenTree
from sonant_asr.fusion.scorer import TokenScorer


@frozen
class Prefixed:
    """Utterances that begin with equally many tokens: frames `(B, T, D)`, how many of each `(B,)`, the tokens `(B, P)`, and how
    many more each may get."""

    enc: Tensor
    lens: Tensor
    prefix: Tensor
    most: list[int]


class Texts:
    """`K` texts of each of `B` utterances.

    Those of an utterance that is done are left out of the computation: `live` are the others. `W` is 1 at the first step, when
    there is only the prefix to go on from, and then `K`.
    """

    def __init__(
        self, decoder: AedHead, group: Prefixed, scorers: Sequence[TokenScorer], *, size: int, len_pen: float = 0.0
    ) -> None:
        self.decoder, self.group, self.scorers, self.len_pen = decoder, group, scorers, len_pen
        self.size = size
        batch, device = len(group.lens), group.enc.device
        self.most = torch.tensor(group.most, device=device)
        self.live = torch.arange(batch, device=device)
        self.scores = torch.full((batch, self.size), NOTHING, device=device)
        self.scores[:, 0] = 0.0
        self.counts = torch.zeros(batch, self.size, dtype=torch.long, device=device)  # tokens, that of the end included
        self.ended = torch.zeros(batch, self.size, dtype=torch.bool, device=device)
        self.nodes = torch.full((batch, self.size), ROOT, device=device)
        self.tree = TokenTree()
        self.tokens = Tokens(decoder.memory(group.enc, group.lens))
        self.next = group.prefix  # what is yet to be put into the decoder, of the live (B * W, U)
        self.states = fusing.start(scorers, batch, device)  # of the live (B * W, S)

    def write(self) -> Self:
        """Write until all is done."""
        for step in range(max(self.group.most)):
            keep = ((self.most[self.live] > step) & ~self.ended[self.live].all(1)).nonzero().squeeze(1)
            if not len(keep):
                break
            if len(keep) < len(self.live):
                self._keep(keep)
            self._step()
        return self

    def _keep(self, keep: Tensor) -> None:
        """Of the live utterances, go on with these."""
        width = len(self.next) // len(self.live)
        rows = (keep[:, None] * width + torch.arange(width, device=keep.device)).flatten()
        if self.tokens.length:
            self.tokens.select(rows, keep)
        else:
            self.tokens.memory = self.tokens.memory.select(keep)
        self.live, self.next, self.states = self.live[keep], self.next[rows], self.states[rows]

    def _step(self) -> None:
        live = self.live
        more, behind = self._scored(self.decoder.next_scores(self.tokens, self.next))
        more = more.view(len(live), -1, more.shape[-1])  # (B, W, V)
        width = more.shape[1]
        scores, parents, labels = self._best(more)
        ended = self.ended[live].gather(1, parents)
        self.counts[live] = self.counts[live].gather(1, parents) + (~ended).long()
        self.scores[live], self.ended[live] = scores, ended | (labels == self.decoder.eos) | (scores == NOTHING)
        self._note(parents, labels, ~self.ended[live])
        if self.size > 1:
            rows = (torch.arange(len(live), device=live.device)[:, None] * width + parents).flatten()
            self.tokens.select(rows)
            behind = None if behind is None else behind[rows]
        self.next = labels.reshape(-1, 1)
        if behind is not None:
            self.states = behind[torch.arange(len(behind), device=live.device), self.next[:, 0]]

    def _scored(self, scores: Tensor) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities `(R, V)` with what the scorers add, and the scorers' states behind each label."""
        if not self.scorers:
            return scores, None
        gains, behind = zip(*(s.advance(self.states[:, n]) for n, s in enumerate(self.scorers)), strict=True)
        for n, (scorer, gain) in enumerate(zip(self.scorers, gains, strict=True)):
            end = scorer.eos(self.states[:, n], gain)
            scores = scores + gain.index_copy(1, torch.tensor([self.decoder.eos], device=gain.device), end[:, None])
        return scores, torch.stack(behind, dim=-1)

    def _best(self, more: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The best continuations, from what each label adds `(B, W, V)`: scores, parents, labels, `(B, K)` each.

        A text that has ended has one continuation, itself.
        """
        width, vocab = more.shape[1:]
        ended = self.ended[self.live, :width, None]
        stay = torch.full_like(more, NOTHING)
        stay[..., self.decoder.eos] = 0.0
        scores = self.scores[self.live, :width, None] + torch.where(ended, stay, more)
        ranks = scores / self._penalty(self.live)[:, :width, None]
        few = (0, max(0, self.size - width * vocab))  # continuations of one prefix in a wide beam
        best = pad(ranks.flatten(1), few, value=NOTHING).topk(self.size, dim=1).indices
        scores = pad(scores.flatten(1), few, value=NOTHING).gather(1, best)
        return scores, (best // vocab).clamp(max=width - 1), best % vocab

    def _penalty(self, utterances: Tensor) -> Tensor:
        """Of texts with one more token, if they have not ended, `(B, K)`."""
        counts = self.counts[utterances] + (~self.ended[utterances]).long()
        return ((5 + self.group.prefix.shape[1] + counts) / 6) ** self.len_pen

    def _note(self, parents: Tensor, labels: Tensor, new: Tensor) -> None:
        """Remember the labels of texts that go on."""
        live = self.live
        nodes = self.nodes[live].gather(1, parents)
        rows, places = new.nonzero(as_tuple=True)
        ends = self.group.lens[live[rows]]
        nodes[rows, places] = self.tree.add(nodes[rows, places], labels[rows, places], torch.zeros_like(ends), ends)
        self.nodes[live] = nodes

    def hypotheses(self, n_best: int = 1) -> list[Hypothesis]:
        """One for each utterance."""
        every = torch.arange(len(self.scores), device=self.scores.device)
        return self.tree.hypotheses(self.nodes, self.scores, self.scores / self._penalty(every), n_best)
