"""Greedy CTC search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from attrs import evolve, frozen
from torch import Tensor

from sonant import lengths
from sonant.files import Files
from sonant.protocols import Hypothesis, Tokenizer
from sonant_asr.beams import fusing
from sonant_asr.confidence.config import ConfidenceConfig
from sonant_asr.confidence.measures import measure
from sonant_asr.confidence.tokens import Step, ctc_tokens
from sonant_asr.ctc.config import CtcGreedyConfig
from sonant_asr.ctc.model import CtcHead
from sonant_asr.fusion.building import scorers_of
from sonant_asr.fusion.scorer import TokenScorer
from sonant_asr.timestamps import ctc_spans


@frozen
class Stream:
    """Where the search stands in a stream: frames seen, the last one's id, where the last token was first seen, and the scorers'
    states behind it `(1, S)`, where there are scorers."""

    seen: int
    last: int
    end: int | None = None
    states: Tensor | None = None


class CtcGreedy:
    """The best label of every frame, with repeats and blanks removed.

    A hypothesis' score is the log-probability of the best path, and what a language model and phrases give for its tokens. These
    choose among the labels where the head sees a new one; whether it does is the head's decision.
    """

    families: ClassVar = ("ctc",)

    def __init__(self, config: CtcGreedyConfig, *, tokenizer: Tokenizer | None = None, files: Files | None = None) -> None:
        self.config = config
        self.scorers = scorers_of(config.fusion, tokenizer, files)

    def __call__(self, decoder: CtcHead, enc: Tensor, lens: Tensor) -> list[Hypothesis]:
        """`(B, T, D)`, `(B,)` to one hypothesis an utterance."""
        return self.step(decoder, enc, lens, [self.init_state(decoder)] * len(lens))[0]

    def init_state(self, decoder: CtcHead) -> Stream:
        """The state of a stream before its first frame."""
        if not self.scorers:
            return Stream(0, decoder.blank)
        return Stream(0, decoder.blank, states=fusing.start(self.scorers, 1, next(decoder.parameters()).device))

    @torch.no_grad()
    def step(
        self, decoder: CtcHead, enc: Tensor, lens: Tensor, states: Sequence[Stream]
    ) -> tuple[list[Hypothesis], list[Stream]]:
        """`(B, T, D)` more frames of as many streams, `(B,)` of them valid, to what is new in them, and the next states.

        With `confidence`, a token counts its frames up to the end of the piece.
        """
        if not states:
            return [], []
        logits = decoder(enc).float()
        best, ids = logits.max(-1)  # (B, T)
        after: Sequence[Tensor | None] = [None] * len(states)
        if self.scorers:
            best, ids, after = _fused(self.scorers, logits, best, ids, lens, states)
        valid = lengths.mask(lens, enc.shape[1])
        scores = (best - logits.logsumexp(-1)).masked_fill(~valid, 0.0).sum(1)
        rows = [row[:length] for row, length in zip(ids.tolist(), lens.tolist(), strict=True)]
        found = [
            _hypothesis(row, decoder.blank, stream, score)
            for row, stream, score in zip(rows, states, scores.tolist(), strict=True)
        ]
        following = [_after(*one) for one in zip(states, rows, found, after, strict=True)]
        if self.config.confidence:
            sure = measure(logits.log_softmax(-1), self.config.confidence).tolist()
            found = [
                _sure(hypothesis, row, of_frames, decoder.blank, stream, self.config.confidence)
                for hypothesis, row, of_frames, stream in zip(found, rows, sure, states, strict=True)
            ]
        return found, following


def _fused(
    scorers: Sequence[TokenScorer], logits: Tensor, best: Tensor, ids: Tensor, lens: Tensor, streams: Sequence[Stream]
) -> tuple[Tensor, Tensor, Sequence[Tensor]]:
    """Other ids `(B, T)` where a new label is seen and scorers like another better, what they are worth, and the next states."""
    best, ids, blank = best.clone(), ids.clone(), logits.shape[-1] - 1
    states = torch.cat([stream.states for stream in streams if stream.states is not None])
    last = torch.tensor([stream.last for stream in streams], device=ids.device)
    for t in range(logits.shape[1]):
        new = ((ids[:, t] != blank) & (ids[:, t] != last) & (t < lens)).nonzero().squeeze(1)
        if len(new):
            gains, behind = fusing.advance(scorers, states[new])
            heard = logits[new, t].scatter(1, last[new, None], -torch.inf)[:, :-1] + gains  # a repeat would be no new label
            best[new, t], ids[new, t] = heard.max(-1)
            states[new] = behind[torch.arange(len(new), device=new.device), ids[new, t]]
        last = ids[:, t]
    return best, ids, states.split(1)


def _hypothesis(frame_ids: list[int], blank: int, stream: Stream, score: float) -> Hypothesis:
    tokens, starts, ends = ctc_spans(frame_ids, blank, first=stream.seen, last=stream.last, end=stream.end)
    return Hypothesis(tokens=tokens, starts=starts, ends=ends, score=score)


def _after(stream: Stream, frame_ids: list[int], found: Hypothesis, states: Tensor | None) -> Stream:
    last = frame_ids[-1] if frame_ids else stream.last
    return Stream(stream.seen + len(frame_ids), last, found.ends[-1] if found.ends else stream.end, states)


def _sure(
    found: Hypothesis, ids: list[int], confidence: list[float], blank: int, stream: Stream, config: ConfidenceConfig
) -> Hypothesis:
    """The hypothesis with how sure the head was of each frame and token."""
    steps = [Step(t, label, number) for t, (label, number) in enumerate(zip(ids, confidence, strict=False), start=stream.seen)]
    return evolve(
        found,
        token_confidence=ctc_tokens(steps, blank, config, stream.last),
        frame_confidence=tuple((step.frame, step.confidence) for step in steps),
    )
