"""What becomes final, and when, adds up to what one pass over the same tokens gives."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from sonant.files import Files
from sonant.protocols import Hypothesis
from sonant.results import Span
from sonant_asr.recognizer.config import AsrConfig
from sonant_asr.recognizer.text import transcript
from sonant_asr.streaming.events import Event
from sonant_asr.streaming.words import Spelling, Words
from sonant_asr.timestamps import settled
from sonant_asr.tokenizers.char import Char
from sonant_asr.tokenizers.config import CharConfig, SentencePieceConfig
from sonant_asr.tokenizers.sentencepiece import SentencePiece
from sonant_asr.tokenizers.tiny import files

SUBWORDS = SentencePiece(SentencePieceConfig(file="tiny.model"), files=Files.of(files(), "tiny"))
LETTERS = Char(CharConfig(labels=[" ", "a", "b", ",", ".", "'"]))
BARS = Char(CharConfig(labels=["|", "a", "b", "."]))


class Pieces:
    """A tokenizer with given pieces, which decodes them as SentencePiece does."""

    def __init__(self, *pieces: str) -> None:
        self.labels, self.vocab_size = pieces, len(pieces)

    def encode(self, text: str) -> list[int]:
        raise NotImplementedError

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.pieces(ids)).replace("▁", " ").removeprefix(" ")

    def pieces(self, ids: Sequence[int]) -> list[str]:
        return [self.labels[i] for i in ids]


MARKED = Pieces("▁", "▁to", "▁day", "ing", "s", ".", ",", "'", "▁'t")
TOKENIZERS = {"subwords": SUBWORDS, "letters": LETTERS, "marked": MARKED, "bars": BARS}


def config_of(tokenizer: Any) -> AsrConfig:
    return AsrConfig(word_separator="|" if tokenizer is BARS else " ")


def hypothesis(tokenizer: Any, count: int, generator: random.Random, step: int = 3) -> Hypothesis:
    """Random tokens, in spans as a transducer's are: in order, with gaps."""
    at, spans = 0, []
    for _ in range(count):
        at += generator.randint(0, step)
        spans.append((at, at + generator.randint(0, 2)))
    tokens = tuple(generator.randrange(tokenizer.vocab_size) for _ in range(count))
    return Hypothesis(tokens=tokens, starts=tuple(s for s, _ in spans), ends=tuple(e for _, e in spans))


def part(whole: Hypothesis, first: int, last: int) -> Hypothesis:
    return Hypothesis(tokens=whole.tokens[first:last], starts=whole.starts[first:last], ends=whole.ends[first:last])


def heard(
    whole: Hypothesis,
    tokenizer: Any,
    family: str,
    cuts: Sequence[int],
    silence: float | None = None,
    config: AsrConfig | None = None,
) -> list[Event]:
    """The events when the tokens come in pieces, the last of them with the end."""
    words = Words(Spelling(tokenizer), family, 0.5, config or config_of(tokenizer), silence)
    events: list[Event] = []
    for first, last in zip([0, *cuts], [*cuts, len(whole.tokens)], strict=True):
        frames = whole.starts[last - 1] + 1 if last else 0
        events += words.add(part(whole, first, last), frames, 0.5 * frames, ended=False)
        if last < len(whole.tokens):  # up to where the next token begins
            events += words.add(part(whole, 0, 0), whole.starts[last], 0.5 * whole.starts[last], ended=False)
    frames = max(whole.ends, default=0)
    events += words.add(part(whole, 0, 0), frames, 0.5 * frames, ended=True)
    return events


def text(events: Sequence[Event]) -> str:
    return "".join(event.text for event in events)


def spoken(events: Sequence[Event]) -> list[Span]:
    return [word for event in events for word in event.words]


@pytest.mark.parametrize("family", ["ctc", "rnnt", "tdt"])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_words_and_times_are_those_of_one_pass(name: str, family: str) -> None:
    tokenizer = TOKENIZERS[name]
    for seed in range(25):
        generator = random.Random(seed)
        count = generator.randint(0, 60)
        whole = hypothesis(tokenizer, count, generator)
        cuts = sorted(generator.randint(0, count) for _ in range(generator.randint(0, 2 * count)))
        wanted = transcript(whole, tokenizer, family, 0.5, "word", config_of(tokenizer))
        events = heard(whole, tokenizer, family, cuts)
        assert text(events) == wanted.text
        assert spoken(events) == list(wanted.words)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_text_is_that_of_one_pass_however_soon_words_are_final(name: str) -> None:
    """Even where words that were taken for final go on after a pause; then what comes to them stands by itself."""
    tokenizer, pauses = TOKENIZERS[name], 0
    for seed in range(25):
        generator = random.Random(seed)
        whole = hypothesis(tokenizer, 40, generator, step=9)
        events = heard(whole, tokenizer, "rnnt", range(1, 40), silence=2.0)
        wanted = transcript(whole, tokenizer, "rnnt", 0.5, "word", config_of(tokenizer))
        assert text(events) == wanted.text
        joined = "".join(word.text for word in spoken(events)).replace(" ", "")
        assert joined == "".join(word.text for word in wanted.words).replace(" ", "")
        pauses += sum(event.pause for event in events)
    assert pauses > 25


@pytest.mark.parametrize("name", TOKENIZERS)
def test_final_and_partial_text_is_the_text_so_far(name: str) -> None:
    tokenizer, generator = TOKENIZERS[name], random.Random(1)
    for _ in range(20):
        whole = hypothesis(tokenizer, 30, generator)
        words, final, shown = Words(Spelling(tokenizer), "rnnt", 0.5, config_of(tokenizer), None), "", ""
        for n in range(30):
            for event in words.add(part(whole, n, n + 1), whole.ends[n], 0.0, ended=False):
                final += event.text
                shown = final + event.partial
            assert shown == transcript(part(whole, 0, n + 1), tokenizer, "rnnt", 0.5, None, config_of(tokenizer)).text


def tokens(tokenizer: Pieces, *pieces: str) -> tuple[int, ...]:
    return tuple(tokenizer.labels.index(piece) for piece in pieces)


def evenly(ids: tuple[int, ...]) -> Hypothesis:
    return Hypothesis(tokens=ids, starts=tuple(range(len(ids))), ends=tuple(range(1, len(ids) + 1)))


def test_a_word_is_final_when_the_next_begins() -> None:
    whole = evenly(tokens(MARKED, "▁to", "s", ".", "▁day", "ing"))
    words = Words(Spelling(MARKED), "rnnt", 0.5, AsrConfig(), None)
    events = [event for n in range(5) for event in words.add(part(whole, n, n + 1), n + 1, 0.5 * (n + 1), ended=False)]
    final = Span("tos.", 0.0, 1.5)
    assert events == [
        Event(partial="to", seconds=0.5),
        Event(partial="tos", seconds=1.0),
        Event(partial="tos.", seconds=1.5),
        Event(text="tos.", words=(final,), partial=" day", seconds=2.0),
        Event(partial=" daying", seconds=2.5),
    ]
    assert words.add(part(whole, 0, 0), 9, 4.5, ended=False) == []
    assert words.add(part(whole, 0, 0), 9, 4.5, ended=True) == [
        Event(text=" daying", words=(Span("daying", 1.5, 2.5),), seconds=4.5, ended=True)
    ]


def test_a_pause_makes_the_last_word_final() -> None:
    words = Words(Spelling(MARKED), "rnnt", 0.5, AsrConfig(), 2.0)
    word, more = evenly(tokens(MARKED, "▁to", "s")), Hypothesis(tokens=tokens(MARKED, "."), starts=(9,), ends=(10,))
    nothing = part(word, 0, 0)
    assert words.add(word, 5, 2.5, ended=False) == [Event(partial="tos", seconds=2.5)]
    assert words.add(nothing, 6, 3.0, ended=False) == [Event(text="tos", words=(Span("tos", 0.0, 1.0),), seconds=3.0, pause=True)]
    assert words.add(nothing, 7, 3.5, ended=False) == []
    assert words.add(more, 10, 5.0, ended=False) == [Event(partial=".", seconds=5.0)]
    assert words.add(nothing, 14, 7.0, ended=False) == [Event(text=".", words=(Span(".", 4.5, 5.0),), seconds=7.0, pause=True)]


ENDED = Pieces("▁to", "▁day", "s", ".", "<EOU>")
ENDS = AsrConfig(end_of_utterance=["<EOU>"])


def test_an_utterance_ends_where_the_model_says_so() -> None:
    words = Words(Spelling(ENDED), "rnnt", 0.5, ENDS, None)
    whole = evenly(tokens(ENDED, "▁to", "s", "<EOU>", "▁day", "<EOU>", "<EOU>", "▁to"))
    assert words.add(whole, 7, 3.5, ended=False) == [
        Event(text="tos", words=(Span("tos", 0.0, 1.0),), seconds=3.5, marks=(Span("<EOU>", 1.0, 1.5),), pause=True),
        Event(text=" day", words=(Span("day", 1.5, 2.0),), seconds=3.5, marks=(Span("<EOU>", 2.0, 2.5),), pause=True),
        Event(seconds=3.5, marks=(Span("<EOU>", 2.5, 3.0),), pause=True),
        Event(partial=" to", seconds=3.5),
    ]


def test_utterances_are_those_of_one_pass() -> None:
    for seed in range(25):
        generator = random.Random(seed)
        whole = hypothesis(ENDED, 40, generator)
        events = heard(whole, ENDED, "rnnt", sorted(generator.randint(0, 40) for _ in range(30)), config=ENDS)
        wanted = transcript(whole, ENDED, "rnnt", 0.5, "word", ENDS)
        assert text(events) == wanted.text
        assert [mark for event in events for mark in event.marks] == list(wanted.marks)
        assert spoken(events) == list(wanted.words)


def test_what_is_kept_does_not_grow() -> None:
    """Even in a language that is written without spaces, as long as its speakers pause."""
    for tokenizer, silence in ((MARKED, None), (Pieces("天", "地", "人"), 1.0)):
        generator, words, sizes = random.Random(0), Words(Spelling(tokenizer), "rnnt", 0.5, AsrConfig(), silence), []
        for n in range(2000):
            token = generator.randrange(tokenizer.vocab_size)
            found = Hypothesis(tokens=(token,), starts=(n,), ends=(n + 1,)) if n % 20 < 15 else part(evenly((0,)), 0, 0)
            words.add(found, n + 1, 0.5 * (n + 1), ended=False)
            sizes.append(len(words._kept.tokens))
        assert max(sizes[1000:]) <= max(sizes[:1000]) + 20 < 80


@pytest.mark.parametrize(
    ("pieces", "count"),
    [
        ([], 0),
        (["▁to"], 0),
        (["▁to", "s"], 0),
        (["▁to", "▁day"], 1),
        (["▁to", "▁day", "ing"], 1),
        (["▁to", "."], 0),
        (["▁to", "▁"], 0),
        (["▁to", "▁", "."], 0),
        (["▁to", "▁", "s"], 1),
        (["▁to", ".", "▁day", ",", "▁"], 2),
        (["s", "▁to"], 1),
    ],
    ids=str,
)
def test_what_nothing_to_come_can_change(pieces: list[str], count: int) -> None:
    assert settled(evenly(tokens(MARKED, *pieces)), MARKED) == count
