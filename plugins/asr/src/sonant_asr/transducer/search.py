"""Greedy search of RNN-T and TDT heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from attrs import evolve
from torch import Tensor

from sonant.files import Files
from sonant.protocols import Hypothesis, Tokenizer
from sonant_asr.confidence.config import ConfidenceConfig
from sonant_asr.confidence.tokens import Step, transducer_tokens
from sonant_asr.fusion.building import scorers_of
from sonant_asr.transducer.config import TransducerGreedyConfig
from sonant_asr.transducer.looping import Found, LabelLoop, Steps, Stream
from sonant_asr.transducer.model import Transducer


class TransducerGreedy:
    """The best label at every step.

    RNN-T stays at a frame until a blank moves it on by one. TDT moves by the predicted duration; a blank always moves. After
    `max_symbols` labels at one frame, by default as many as the head's config says, the search moves on by itself. A token spans
    `[frame, frame + 1)` for RNN-T and `[frame, frame + duration)` for TDT; a hypothesis' score adds up the log-probabilities of
    its labels, and what a language model and phrases give. These choose among the labels where the head sees one; whether it
    does is the head's decision.
    """

    families: ClassVar = ("rnnt", "tdt")

    def __init__(self, config: TransducerGreedyConfig, *, tokenizer: Tokenizer | None = None, files: Files | None = None) -> None:
        self.config = config
        self.scorers = scorers_of(config.fusion, tokenizer, files)

    def __call__(self, decoder: Transducer, enc: Tensor, lens: Tensor) -> list[Hypothesis]:
        """`(B, T, D)`, `(B,)` to one hypothesis an utterance."""
        return self._run(decoder, enc, lens, [self.init_state(decoder)] * len(lens))[0]

    @torch.no_grad()
    def init_state(self, decoder: Transducer) -> Stream:
        """The state of a stream before its first frame."""
        return Stream.start(decoder, self.scorers)

    def step(
        self, decoder: Transducer, enc: Tensor, lens: Tensor, states: Sequence[Stream]
    ) -> tuple[list[Hypothesis], list[Stream]]:
        """`(B, T, D)` more frames of as many streams, `(B,)` of them valid, to what is new in them, and the next states.

        With `confidence`, a token counts the blanks behind it up to the end of the piece.
        """
        found, loop = self._run(decoder, enc, lens, states)
        return found, loop.streams() if loop else []

    @torch.no_grad()
    def _run(
        self, decoder: Transducer, enc: Tensor, lens: Tensor, streams: Sequence[Stream]
    ) -> tuple[list[Hypothesis], LabelLoop | None]:
        if not streams:
            return [], None
        loop = LabelLoop(
            decoder,
            enc,
            lens,
            streams,
            max_symbols=self.config.max_symbols or decoder.config.max_symbols,
            scorers=self.scorers,
            confidence=self.config.confidence,
        )
        seen = [stream.seen for stream in streams]
        found = _collect(list(loop.run()), seen)
        return _sure(found, loop.steps, seen, decoder, self.config.confidence) if self.config.confidence else found, loop


def _collect(found: list[Found], seen: Sequence[int]) -> list[Hypothesis]:
    if not found:
        return [Hypothesis(tokens=(), starts=(), ends=()) for _ in seen]
    rows = torch.cat([f.rows for f in found]).tolist()
    columns = [torch.cat([getattr(f, name) for f in found]).tolist() for name in ("labels", "starts", "ends", "scores")]
    by_row: list[list[tuple[int, int, int, float]]] = [[] for _ in seen]
    for row, entry in zip(rows, zip(*columns, strict=True), strict=True):
        by_row[row].append(entry)
    return [
        Hypothesis(
            tokens=tuple(e[0] for e in entries),
            starts=tuple(before + e[1] for e in entries),
            ends=tuple(before + e[2] for e in entries),
            score=sum(e[3] for e in entries),
        )
        for before, entries in zip(seen, by_row, strict=True)
    ]


def _sure(
    found: list[Hypothesis], steps: Sequence[Steps], seen: Sequence[int], decoder: Transducer, config: ConfidenceConfig
) -> list[Hypothesis]:
    """The hypotheses with how sure the head was of them."""
    by_row: list[list[Step]] = [[] for _ in seen]
    if steps:
        columns = [torch.cat([getattr(s, name) for s in steps]).tolist() for name in ("rows", "at", "labels", "confidence")]
        for row, at, label, confidence in zip(*columns, strict=True):
            by_row[row].append(Step(seen[row] + at, label, confidence))
    return [
        evolve(
            hypothesis,
            token_confidence=transducer_tokens(own, decoder.blank, config, decoder.family),
            frame_confidence=tuple((step.frame, step.confidence) for step in own),
        )
        for hypothesis, own in zip(found, by_row, strict=True)
    ]
