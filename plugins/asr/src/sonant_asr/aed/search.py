"""Greedy and beam search of attention encoder-decoder heads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from sonant.files import Files
from sonant.protocols import Hypothesis, Tokenizer
from sonant_asr.aed.config import AedBeamConfig, AedGreedyConfig
from sonant_asr.aed.model import AedHead
from sonant_asr.aed.texts import Prefixed, Texts
from sonant_asr.fusion.building import scorers_of
from sonant_asr.recognizer.prompt import Prompt

Prefixes = Sequence[tuple[int, ...]]


class AedGreedy:
    """The best token at every step, until the one that ends a text.

    A hypothesis' score adds up the log-probabilities of its tokens, that of the end included, and what a language model and
    phrases give. Which frames a token spans the head does not tell: each spans all.
    """

    families: ClassVar = ("aed",)

    def __init__(self, config: AedGreedyConfig, *, tokenizer: Tokenizer | None = None, files: Files | None = None) -> None:
        self.config = config
        self.scorers = scorers_of(config.fusion, tokenizer, files)

    def __call__(self, decoder: AedHead, enc: Tensor, lens: Tensor, prefixes: Prefixes | None = None) -> list[Hypothesis]:
        """`(B, T, D)`, `(B,)`, the tokens each text begins with, to one hypothesis an utterance, without these tokens."""
        found = [Hypothesis(tokens=(), starts=(), ends=())] * len(lens)
        for utterances, group in _groups(decoder, enc, lens, prefixes, self.config.max_generation_delta):
            texts = Texts(decoder, group, self.scorers, size=1).write()
            for n, one in zip(utterances, texts.hypotheses(), strict=True):
                found[n] = one
        return found


class AedBeam:
    """The best of `beam_size` texts that are written side by side.

    Texts are ranked by score over the length penalty of Wu et al. (2016), for which the prefix and the token that ends a text
    count. A search ends when each of its texts has ended, or is as long as may be. Scores and spans are those of `aed_greedy`.
    """

    families: ClassVar = ("aed",)

    def __init__(self, config: AedBeamConfig, *, tokenizer: Tokenizer | None = None, files: Files | None = None) -> None:
        self.config = config
        self.scorers = scorers_of(config.fusion, tokenizer, files)

    def __call__(self, decoder: AedHead, enc: Tensor, lens: Tensor, prefixes: Prefixes | None = None) -> list[Hypothesis]:
        """`(B, T, D)`, `(B,)`, the tokens each text begins with, to one hypothesis an utterance, with its alternatives."""
        found = [Hypothesis(tokens=(), starts=(), ends=())] * len(lens)
        for utterances, group in _groups(decoder, enc, lens, prefixes, self.config.max_generation_delta):
            texts = Texts(decoder, group, self.scorers, size=self.config.beam_size, len_pen=self.config.len_pen).write()
            for n, one in zip(utterances, texts.hypotheses(self.config.n_best), strict=True):
                found[n] = one
        return found


def _groups(
    decoder: AedHead, enc: Tensor, lens: Tensor, prefixes: Prefixes | None, delta: int | None
) -> Iterator[tuple[list[int], Prefixed]]:
    """The utterances that have frames, by the length of their prefixes, so that positions agree within a group.

    Without prefixes they get that of a model asked for nothing.
    """
    if prefixes is None:
        prefixes = [decoder.prompt.encode(decoder.fill_prompt(Prompt()))] * len(lens)
    present = [n for n, length in enumerate(lens.tolist()) if length]
    for size in sorted({len(prefixes[n]) for n in present}):
        rows = [n for n in present if len(prefixes[n]) == size]
        group = Prefixed(
            enc[rows, : int(lens[rows].max())],
            lens[rows],
            torch.tensor([prefixes[n] for n in rows], device=enc.device),
            [_most(decoder, int(lens[n]), delta) - size + 1 for n in rows],
        )
        yield rows, group


def _most(decoder: AedHead, frames: int, delta: int | None) -> int:
    """The tokens that may be put into the decoder."""
    most = decoder.config.max_positions
    return most if delta is None else min(most, frames + delta)
