"""From what a search found to a transcript."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, get_args

from attrs import evolve

from sonant.errors import ConfigError
from sonant.protocols import Hypothesis, Tokenizer
from sonant.results import Alternative, Transcript
from sonant_asr.aed.transcripts import written
from sonant_asr.confidence.measures import aggregate
from sonant_asr.recognizer.config import AsrConfig
from sonant_asr.recognizer.utterances import end_ids, marks, utterances, without
from sonant_asr.timestamps import Spelled, punctuation, timestamps

Level = Literal["segment", "word", "char"]
"""How fine timestamps are. Each level includes the coarser ones."""


def check_level(level: str | bool | None) -> Level | None:
    """`True` means `word`.

    Raises:
        ConfigError: there is no such level.
    """
    if level is None or level is False:
        return None
    if level is True:
        return "word"
    if level not in get_args(Level):
        raise ConfigError(f"timestamps={level!r}: there are {', '.join(get_args(Level))}")
    return level  # type: ignore[return-value]


def transcript(
    hypothesis: Hypothesis,
    tokenizer: Tokenizer,
    family: str,
    frame_seconds: float,
    level: Level | None,
    config: AsrConfig,
    aggregation: str = "min",
) -> Transcript:
    """The text of `hypothesis`, with as many timestamps as `level` asks for.

    `aggregation` says how the confidences of a word's tokens become one, where the search gave any.
    """
    if family == "aed":
        return written(hypothesis, tokenizer, frame_seconds, level, config)
    ends = end_ids(tokenizer, config)
    text, *others = _texts(without(hypothesis, ends), tokenizer)
    found = Transcript(
        text=text.text,
        tokens=hypothesis.tokens,
        score=hypothesis.score,
        alternatives=tuple(others),
        marks=marks(hypothesis, ends, frame_seconds),
    )
    if level is None and not hypothesis.token_confidence:
        return found
    timed = [
        timestamps(
            utterance,
            tokenizer,
            frame_seconds,
            family=family,
            word_separator=config.word_separator,
            segment_separators=config.segment_separators,
            segment_gap=config.segment_gap,
            aggregation=aggregation,
        )
        for utterance in utterances(hypothesis, ends)
    ]
    sure = [number for one in timed for number in one.token_confidence]
    if sure:
        found = evolve(found, confidence=aggregate(sure, aggregation))
    if level is None:
        return found
    return evolve(
        found,
        segments=tuple(span for one in timed for span in one.segments),
        words=tuple(span for one in timed for span in one.words) if level in ("word", "char") else (),
        chars=tuple(span for one in timed for span in one.chars) if level == "char" else (),
    )


def _texts(hypothesis: Hypothesis, tokenizer: Tokenizer) -> list[Alternative]:
    """The text of a hypothesis and of its alternatives, each text once: tokens may spell one in several ways."""
    found: dict[str, Alternative] = {}
    for one in (hypothesis, *hypothesis.alternatives):
        text = spelled(one.tokens, tokenizer)
        found.setdefault(text, Alternative(text, one.score))
    return list(found.values())


def spelled(tokens: Sequence[int], tokenizer: Spelled) -> str:
    """The text of tokens as people write it."""
    return _strip_spaces(tokenizer.decode(tokens), punctuation(tokenizer))


def _strip_spaces(text: str, marks: frozenset[str]) -> str:
    """Without the space before a punctuation mark."""
    return _before_marks(marks).sub(r"\1", text) if marks else text


@lru_cache(maxsize=64)
def _before_marks(marks: frozenset[str]) -> re.Pattern[str]:
    return re.compile(rf"\s({'|'.join(re.escape(m) for m in sorted(marks))})")
