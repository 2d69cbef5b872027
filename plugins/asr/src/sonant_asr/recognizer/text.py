"""From what a search found to a transcript."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal, get_args

from sonant.errors import ConfigError
from sonant.protocols import Hypothesis, Tokenizer
from sonant.results import Transcript
from sonant_asr.recognizer.config import AsrConfig
from sonant_asr.timestamps import punctuation, timestamps

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
    hypothesis: Hypothesis, tokenizer: Tokenizer, family: str, frame_seconds: float, level: Level | None, config: AsrConfig
) -> Transcript:
    """The text of `hypothesis`, with as many timestamps as `level` asks for."""
    text = _strip_spaces(tokenizer.decode(hypothesis.tokens), punctuation(tokenizer))
    found = Transcript(text=text, tokens=hypothesis.tokens, score=hypothesis.score)
    if level is None:
        return found
    spans = timestamps(
        hypothesis,
        tokenizer,
        frame_seconds,
        family=family,
        word_separator=config.word_separator,
        segment_separators=config.segment_separators,
        segment_gap=config.segment_gap,
    )
    return Transcript(
        text=text,
        tokens=found.tokens,
        score=found.score,
        segments=spans.segments,
        words=spans.words if level in ("word", "char") else (),
        chars=spans.chars if level == "char" else (),
    )


def _strip_spaces(text: str, marks: frozenset[str]) -> str:
    """Without the space before a punctuation mark."""
    return _before_marks(marks).sub(r"\1", text) if marks else text


@lru_cache(maxsize=64)
def _before_marks(marks: frozenset[str]) -> re.Pattern[str]:
    return re.compile(rf"\s({'|'.join(re.escape(m) for m in sorted(marks))})")
