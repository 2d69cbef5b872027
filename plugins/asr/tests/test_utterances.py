"""Tokens that mark ends of utterances: found, kept out of texts, times and confidences, and given beside them."""

from __future__ import annotations

import pytest

from sonant.errors import ConfigError
from sonant.protocols import Hypothesis
from sonant.results import Span, Transcript
from sonant_asr.recognizer.config import AsrConfig
from sonant_asr.recognizer.text import transcript
from sonant_asr.recognizer.utterances import end_ids, marks, utterances, without

PIECES = ["<unk>", "<EOU>", "<EOB>", "▁hello", "▁there", "▁uh", ".", "▁hi"]
CONFIG = AsrConfig(end_of_utterance=["<EOB>", "<EOU>"])
ENDS = {1: "<EOU>", 2: "<EOB>"}


class Tokenizer:
    vocab_size = len(PIECES)

    def encode(self, text: str) -> list[int]:
        raise NotImplementedError

    def pieces(self, ids: list[int]) -> list[str]:
        return [PIECES[i] for i in ids]

    def decode(self, ids: list[int]) -> str:
        return "".join(self.pieces(ids)).replace("▁", " ").removeprefix(" ")


def hypothesis(*tokens: int) -> Hypothesis:
    """A token a frame, each as sure as its number."""
    count = range(len(tokens))
    confidence = tuple(token / 10 for token in tokens)
    return Hypothesis(tokens=tokens, starts=tuple(count), ends=tuple(n + 1 for n in count), token_confidence=confidence)


def test_the_ids_of_the_tokens_that_the_config_names() -> None:
    assert end_ids(Tokenizer(), CONFIG) == ENDS
    assert end_ids(Tokenizer(), AsrConfig()) == {}
    with pytest.raises(ConfigError, match=r"task\.end_of_utterance: the tokenizer has no token <X> and no <Y>"):
        end_ids(Tokenizer(), AsrConfig(end_of_utterance=["<X>", "<EOU>", "<Y>"]))


def test_what_is_left_without_them() -> None:
    found = without(hypothesis(3, 4, 1, 5, 2), ENDS)
    assert (found.tokens, found.starts, found.ends) == ((3, 4, 5), (0, 1, 3), (1, 2, 4))
    assert found.token_confidence == (0.3, 0.4, 0.5)
    assert without(found, {}) is found


@pytest.mark.parametrize(
    ("tokens", "pieces"),
    [
        ((3, 4, 1, 5, 2), [(3, 4), (5,)]),
        ((3, 1, 4), [(3,), (4,)]),
        ((1, 1, 3, 2, 1), [(3,)]),
        ((3, 4), [(3, 4)]),
        ((1,), [()]),
        ((), [()]),
    ],
)
def test_utterances(tokens: tuple[int, ...], pieces: list[tuple[int, ...]]) -> None:
    assert [piece.tokens for piece in utterances(hypothesis(*tokens), ENDS)] == pieces


def test_each_mark_has_its_time() -> None:
    assert marks(hypothesis(3, 1, 5, 2), ENDS, 0.5) == (Span("<EOU>", 0.5, 1.0), Span("<EOB>", 1.5, 2.0))


def made(level: str | None, config: AsrConfig = CONFIG, *tokens: int) -> Transcript:
    return transcript(hypothesis(*tokens), Tokenizer(), "rnnt", 0.5, level, config)  # type: ignore[arg-type]


def test_a_transcript_with_marks() -> None:
    found = made("word", CONFIG, 3, 4, 1, 5, 2, 7, 6, 3)
    assert found.text == "hello there uh hi. hello" and found.tokens == (3, 4, 1, 5, 2, 7, 6, 3)
    assert [(m.text, m.start, m.end) for m in found.marks] == [("<EOU>", 1.0, 1.5), ("<EOB>", 2.0, 2.5)]
    assert [(w.text, w.start) for w in found.words] == [
        ("hello", 0.0),
        ("there", 0.5),
        ("uh", 1.5),
        ("hi.", 2.5),
        ("hello", 3.5),
    ]
    assert [(s.text, s.start, s.end) for s in found.segments] == [
        ("hello there", 0.0, 1.0),
        ("uh", 1.5, 2.0),
        ("hi.", 2.5, 3.5),
        ("hello", 3.5, 4.0),
    ]
    row = found.to_dict()
    assert [mark["text"] for mark in row["marks"]] == ["<EOU>", "<EOB>"]


def test_marks_come_without_timestamps_too() -> None:
    found = made(None, CONFIG, 3, 1)
    assert found.text == "hello" and [m.text for m in found.marks] == ["<EOU>"] and found.segments == ()


def test_without_the_config_they_are_tokens_as_others() -> None:
    found = made("word", AsrConfig(), 3, 1)
    assert found.text == "hello<EOU>" and found.marks == () and "marks" not in found.to_dict()
