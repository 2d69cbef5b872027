"""Tokens that are no words but mark where an utterance ends.

Models for conversations have them (`<EOU>`, and `<EOB>` behind "uh-huh" and its like): `end_of_utterance` in the task's config
names them. They are kept out of texts and words, and are given with their times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from attrs import evolve

from sonant.errors import ConfigError
from sonant.protocols import Hypothesis
from sonant.results import Span
from sonant_asr.recognizer.config import AsrConfig

NEMO_ENDS = ("<EOU>", "<EOB>")


class _Pieces(Protocol):
    vocab_size: int

    def pieces(self, ids: Sequence[int]) -> list[str]: ...


def end_ids(tokenizer: _Pieces, config: AsrConfig) -> dict[int, str]:
    """The ids of the tokens that mark the end of an utterance, with how they are written.

    Raises:
        ConfigError: the tokenizer does not have one that the config names.
    """
    if not config.end_of_utterance:
        return {}
    pieces = tokenizer.pieces(range(tokenizer.vocab_size))
    missing = [name for name in config.end_of_utterance if name not in pieces]
    if missing:
        raise ConfigError(f"task.end_of_utterance: the tokenizer has no token {' and no '.join(missing)}")
    return {pieces.index(name): name for name in config.end_of_utterance}


def without(hypothesis: Hypothesis, ends: Mapping[int, str]) -> Hypothesis:
    """`hypothesis` and its alternatives without these tokens."""
    if not ends:
        return hypothesis
    words = [n for n, token in enumerate(hypothesis.tokens) if token not in ends]
    return evolve(pick(hypothesis, words), alternatives=tuple(without(other, ends) for other in hypothesis.alternatives))


def pick(hypothesis: Hypothesis, places: Sequence[int]) -> Hypothesis:
    """Some of its tokens, with what is known of each."""
    known = hypothesis.token_confidence
    return evolve(
        hypothesis,
        tokens=tuple(hypothesis.tokens[n] for n in places),
        starts=tuple(hypothesis.starts[n] for n in places),
        ends=tuple(hypothesis.ends[n] for n in places),
        token_confidence=tuple(known[n] for n in places) if known else (),
    )


def utterances(hypothesis: Hypothesis, ends: Mapping[int, str]) -> list[Hypothesis]:
    """`hypothesis` in pieces, one up to each of these tokens, and one for what follows the last; without those tokens."""
    found: list[list[int]] = [[]]
    for place, token in enumerate(hypothesis.tokens):
        if token in ends:
            found.append([])
        else:
            found[-1].append(place)
    return [pick(hypothesis, places) for places in found if places] or [pick(hypothesis, ())]


def marks(hypothesis: Hypothesis, ends: Mapping[int, str], frame_seconds: float) -> tuple[Span, ...]:
    """Each of these tokens that was found, and when."""
    found = zip(hypothesis.tokens, hypothesis.starts, hypothesis.ends, strict=True)
    return tuple(Span(ends[token], start * frame_seconds, end * frame_seconds) for token, start, end in found if token in ends)
