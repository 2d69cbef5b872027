"""Words of a stream, final as soon as nothing to come can change them.

A word is final when the next one has begun, when nothing has followed it for a while, or when the utterance or the stream ends.
What is kept are the tokens from the last final word on: it tells which space parts it from what follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import evolve

from sonant.protocols import Hypothesis
from sonant.results import Span
from sonant_asr.recognizer.config import AsrConfig
from sonant_asr.recognizer.text import spelled
from sonant_asr.recognizer.utterances import end_ids, marks, pick
from sonant_asr.streaming.events import Event
from sonant_asr.timestamps import settled, timestamps

_KEPT = 16  # tokens of a final word, at most


class Spelling:
    """A tokenizer whose pieces are listed once."""

    def __init__(self, tokenizer: Any) -> None:
        self.vocab_size: int = tokenizer.vocab_size
        self.decode = tokenizer.decode
        self._pieces: list[str] = list(tokenizer.pieces(range(self.vocab_size)))

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The token of each id as it is written."""
        return self._pieces if ids == range(self.vocab_size) else [self._pieces[i] for i in ids]


class Words:
    """The words of one stream.

    Args:
        spelling: of the model's tokenizer.
        family: of the head.
        frame_seconds: how long an encoder frame lasts.
        config: says what parts words.
        silence: after so many seconds without a new token the last word is final; None waits for the next word.
        aggregation: how the confidences of a word's tokens become one, where the search gives any.
    """

    def __init__(
        self,
        spelling: Spelling,
        family: str,
        frame_seconds: float,
        config: AsrConfig,
        silence: float | None,
        aggregation: str = "min",
    ) -> None:
        self._spelling, self._family, self._frame_seconds, self._config = spelling, family, frame_seconds, config
        self._aggregation = aggregation
        self._ends = end_ids(spelling, config)
        self._silence = None if silence is None else silence / frame_seconds
        self._kept = Hypothesis(tokens=(), starts=(), ends=())
        self._final = 0  # how many of the kept tokens
        self._partial = ""
        self._paused = False  # since the last token, and said so

    def add(self, found: Hypothesis, frames: int, seconds: float, *, ended: bool) -> list[Event]:
        """What is new now that `found` was found, so many `frames` or `seconds` into the stream."""
        places = [n for n, token in enumerate(found.tokens) if token in self._ends]
        events = []
        for first, last in zip([0, *(n + 1 for n in places)], [*places, len(found.tokens)], strict=True):
            mark = marks(_cut(found, last, last + 1), self._ends, self._frame_seconds)
            event = self._heard(_cut(found, first, last), frames, mark, ended=ended and not mark)
            events += [evolve(event, seconds=seconds)] if event is not None else []
        return events

    def _heard(self, found: Hypothesis, frames: int, mark: tuple[Span, ...], *, ended: bool) -> Event | None:
        """What is new now that `found` was found, and a `mark` behind it; None where nothing is."""
        kept = _joined(self._kept, found)
        self._paused = self._paused and not found.tokens
        over = bool(mark) or (not self._paused and self._is_silent(kept, frames))
        if not (found.tokens or over or ended):
            return None
        self._paused = self._paused or over
        final = self._said(kept) if over else self._settled(kept)
        final = len(kept.tokens) if ended else max(self._final, final)
        before, after = (self._text(kept, n) for n in (self._final, final))
        text, partial = after.removeprefix(before), self._text(kept, len(kept.tokens)).removeprefix(after)
        pause = bool(mark) or (over and final > self._final)
        if not (text or pause or ended or partial != self._partial):
            self._kept = kept
            return None
        words = self._new_words(kept, self._final, final)
        begin = max(self._settled(_cut(kept, 0, final)), final - _KEPT)
        self._kept, self._final, self._partial = _cut(kept, begin, len(kept.tokens)), final - begin, partial
        return Event(text=text, words=words, partial=partial, marks=mark, pause=pause, ended=ended)

    def _is_silent(self, kept: Hypothesis, frames: int) -> bool:
        return self._silence is not None and bool(kept.tokens) and frames - kept.ends[-1] >= self._silence

    def _settled(self, kept: Hypothesis) -> int:
        return settled(kept, self._spelling, self._config.word_separator)

    def _said(self, kept: Hypothesis) -> int:
        """How many tokens there are up to the last that says something."""
        said = (n for n, token in enumerate(kept.tokens, 1) if self._spelling.decode([token]).strip(self._blanks))
        return max(said, default=0)

    @property
    def _blanks(self) -> str:
        return " " + self._config.word_separator

    def _text(self, kept: Hypothesis, count: int) -> str:
        return spelled(kept.tokens[:count], self._spelling)

    def _new_words(self, kept: Hypothesis, old: int, new: int) -> tuple[Span, ...]:
        """The words of the tokens `old … new`; what comes to a word that was final already is a word of its own."""
        before, after = (self._spans(_cut(kept, 0, n)) for n in (old, new))
        words = after[len(before) :]
        if before and before[-1].text != after[len(before) - 1].text:
            longer = after[len(before) - 1]
            more = longer.text.removeprefix(before[-1].text)
            words = (evolve(longer, text=more, start=kept.starts[old] * self._frame_seconds), *words)
        return words

    def _spans(self, found: Hypothesis) -> tuple[Span, ...]:
        separator = self._config.word_separator
        return timestamps(
            found,
            self._spelling,
            self._frame_seconds,
            family=self._family,
            word_separator=separator,
            aggregation=self._aggregation,
        ).words


def _joined(one: Hypothesis, other: Hypothesis) -> Hypothesis:
    return Hypothesis(
        tokens=one.tokens + other.tokens,
        starts=one.starts + other.starts,
        ends=one.ends + other.ends,
        token_confidence=one.token_confidence + other.token_confidence,
    )


def _cut(found: Hypothesis, first: int, last: int) -> Hypothesis:
    return pick(found, range(len(found.tokens))[first:last])
