"""What an attention encoder-decoder head wrote as a transcript, its tokens of time taken for what they say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from sonant.protocols import Hypothesis, Tokenizer
from sonant.results import Alternative, Span, Transcript
from sonant_asr.recognizer.config import AsrConfig

_TIMED: Final = re.compile(r"<\|(\d+)\|>(.*?)<\|(\d+)\|>")


def written(
    hypothesis: Hypothesis, tokenizer: Tokenizer, frame_seconds: float, level: str | None, config: AsrConfig
) -> Transcript:
    """The text as NeMo gives it. With a `level`, what stands between two times (`<|3|>`, in encoder frames) is a word.

    A head that was asked for times and wrote none gives the text alone.
    """
    texts = [Alternative(tokenizer.decode(one.tokens), one.score) for one in (hypothesis, *hypothesis.alternatives)]
    words = [] if level is None else list(_words(texts[0].text, frame_seconds))
    if level is not None:
        texts = [Alternative(_without_times(one.text), one.score) for one in texts]
    best = texts[0].text
    others = {one.text: one for one in reversed(texts[1:]) if one.text != best}
    return Transcript(
        text=best,
        tokens=hypothesis.tokens,
        score=hypothesis.score,
        alternatives=tuple(reversed(others.values())),
        segments=tuple(segments(words, config.segment_separators)),
        words=tuple(words) if level in ("word", "char") else (),
    )


def _words(text: str, frame_seconds: float) -> Iterator[Span]:
    for start, content, end in _TIMED.findall(text):
        if content.strip():
            yield Span(content.strip(), int(start) * frame_seconds, int(end) * frame_seconds)


def _without_times(text: str) -> str:
    """The words between times; a text without any as it is."""
    text = text.strip()
    timed = _TIMED.findall(text)
    return " ".join(content.strip() for _, content, _ in timed if content.strip()) if timed else text


def segments(words: Sequence[Span], separators: Sequence[str]) -> Iterator[Span]:
    """Words put together: one that is or ends with a separator ends a segment."""
    segment: list[Span] = []
    for n, word in enumerate(words):
        segment.append(word)
        if word.text in separators or word.text[-1:] in separators or n == len(words) - 1:
            yield Span(" ".join(one.text for one in segment), segment[0].start, segment[-1].end)
            segment = []
