"""Times are NeMo 3.0's: of the reference checkpoints, and of made-up hypotheses (`data/make_timestamps.py`)."""

from __future__ import annotations

import base64
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from attrs import frozen

from sonant.protocols import Hypothesis
from sonant.results import Span
from sonant_asr.timestamps import Timestamps, ctc_spans, punctuation, timestamps

CASES = Path(__file__).resolve().parents[3] / "tests" / "nemo-cases"
GOLDEN = json.loads((Path(__file__).parent / "data" / "timestamps.json").read_text(encoding="utf-8"))


class Pieces:
    """A SentencePiece model as a tokenizer."""

    def __init__(self, model: bytes):
        self._model = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.vocab_size = self._model.get_piece_size()

    def encode(self, text: str) -> list[int]:
        return self._model.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return self._model.decode(list(ids))

    def pieces(self, ids: Sequence[int]) -> list[str]:
        return [self._model.id_to_piece(i) for i in ids]


@frozen
class Labels:
    """Characters, or word pieces that `##` continues."""

    labels: tuple[str, ...]

    @property
    def vocab_size(self) -> int:
        return len(self.labels)

    def encode(self, text: str) -> list[int]:
        return [self.labels.index(c) for c in text]

    def decode(self, ids: Sequence[int]) -> str:
        if any(label.startswith("##") for label in self.labels):
            return " ".join(self.pieces(ids)).replace(" ##", "").strip()
        return "".join(self.pieces(ids))

    def pieces(self, ids: Sequence[int]) -> list[str]:
        return [self.labels[i] for i in ids]


TOKENIZERS = {
    name: Labels(tuple(t["labels"])) if "labels" in t else Pieces(base64.b64decode(t["model"]))
    for name, t in GOLDEN["tokenizers"].items()
}
CHARACTERS = Labels(tuple(" abcdefghijklmnopqrstuvwxyz',.?"))


def frames(found: Timestamps) -> dict[str, list[list[Any]]]:
    """The spans as rows, to compare: of `frame_seconds=1`, so in frames."""

    def rows(spans: Sequence[Span]) -> list[list[Any]]:
        return [[s.text, s.start, s.end] for s in spans]

    return {"chars": rows(found.chars), "words": rows(found.words), "segments": rows(found.segments)}


def spread(tokenizer: Any, text: str, starts: Sequence[int], ends: Sequence[int]) -> Hypothesis:
    return Hypothesis(tokens=tuple(tokenizer.encode(text)), starts=tuple(starts), ends=tuple(ends))


def one_a_frame(text: str) -> Hypothesis:
    return spread(CHARACTERS, text, range(len(text)), range(1, len(text) + 1))


# --- NeMo's numbers


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda c: f"{c['family']}-{c['tokenizer']}")
def test_made_up_hypotheses_get_nemos_spans(case: dict[str, Any]) -> None:
    if case["family"] == "ctc":
        tokens, starts, ends = ctc_spans(case["frames"], case["blank"])
    else:
        tokens, starts, ends = case["tokens"], case["starts"], case["ends"]
    hypothesis = Hypothesis(tokens=tuple(tokens), starts=tuple(starts), ends=tuple(ends))
    found = timestamps(hypothesis, TOKENIZERS[case["tokenizer"]], 1.0, family=case["family"], **case["options"])
    assert frames(found) == {kind: case[kind] for kind in ("chars", "words", "segments")}


def test_made_up_hypotheses_are_many_and_various() -> None:
    kinds = {(case["family"], case["tokenizer"]) for case in GOLDEN["cases"]}
    assert len(kinds) == 14 and len(GOLDEN["cases"]) > 150


def read_case(name: str) -> tuple[dict[str, Any], Any]:
    expected = json.loads((CASES / f"{name}.json").read_text(encoding="utf-8"))
    with tarfile.open(CASES / f"{name}.nemo") as files:
        for member in files.getmembers():
            if member.name.endswith("_tokenizer.model"):
                return expected, Pieces(files.extractfile(member).read())  # type: ignore[union-attr]
    # What NeMo's character configurations list as `labels`.
    return expected, Labels(tuple(" abcdefghijklmnopqrstuvwxyz'"))


@pytest.mark.parametrize(
    ("name", "family", "frame_seconds"),
    [
        ("fastconformer_ctc_bpe", "ctc", 0.08),
        ("conformer_ctc_bpe", "ctc", 0.04),
        ("fastconformer_rnnt_bpe", "rnnt", 0.08),
        ("conformer_rnnt_char", "rnnt", 0.04),
        ("fastconformer_hybrid_rnnt_ctc_char", "rnnt", 0.08),
        ("fastconformer_tdt_bpe", "tdt", 0.08),
        ("fastconformer_hybrid_tdt_ctc_bpe", "tdt", 0.08),
    ],
)
def test_checkpoints_get_nemos_times(name: str, family: str, frame_seconds: float) -> None:
    expected, tokenizer = read_case(name)
    for tokens, stamps in zip(expected["tokens"], expected["timestamp"], strict=True):
        if family == "ctc":
            tokens, starts, ends = ctc_spans(tokens, blank=tokenizer.vocab_size)
        elif family == "rnnt":
            starts, ends = stamps["timestep"], [t + 1 for t in stamps["timestep"]]
        else:
            starts, ends = stamps["timestep"], [c["end_offset"] for c in stamps["char"]]
        hypothesis = Hypothesis(tokens=tuple(tokens), starts=tuple(starts), ends=tuple(ends))
        found = timestamps(hypothesis, tokenizer, frame_seconds, family=family)
        for kind, spans in (("char", found.chars), ("word", found.words), ("segment", found.segments)):
            texts = [c[kind][0] if isinstance(c[kind], list) else c[kind] for c in stamps[kind]]
            assert [s.text for s in spans] == texts
            assert [s.start for s in spans] == pytest.approx([c["start"] for c in stamps[kind]], abs=1e-9)
            assert [s.end for s in spans] == pytest.approx([c["end"] for c in stamps[kind]], abs=1e-9)


@pytest.mark.parametrize("name", ["fastconformer_hybrid_rnnt_ctc_char", "fastconformer_hybrid_tdt_ctc_bpe"])
def test_ctc_heads_of_hybrids_read_their_text(name: str) -> None:
    expected, tokenizer = read_case(name)
    for ids, text in zip(expected["ctc_tokens"], expected["ctc_text"], strict=True):
        tokens, starts, ends = ctc_spans(ids, blank=tokenizer.vocab_size)
        found = timestamps(Hypothesis(tokens=tokens, starts=starts, ends=ends), tokenizer, 0.08, family="ctc")
        assert " ".join(w.text for w in found.words) == found.segments[0].text == text


def test_streamed_ctc_frames_read_their_text() -> None:
    expected, tokenizer = read_case("fastconformer_streaming_ctc_bpe")
    stream = expected["stream_default"]
    tokens, starts, ends = ctc_spans(stream["tokens"], blank=tokenizer.vocab_size)
    found = frames(timestamps(Hypothesis(tokens=tokens, starts=starts, ends=ends), tokenizer, 1.0, family="ctc"))
    assert tokenizer.decode(tokens) == stream["text"]
    assert found["words"] == [["front", 0, 4], ["center", 4, 16], ["rear", 16, 24], ["left", 24, 37]]


# --- CTC spans


@pytest.mark.parametrize(
    ("ids", "spans"),
    [
        ([], ((), (), ())),
        ([9, 9, 9], ((), (), ())),
        ([1], ((1,), (0,), (0,))),
        ([9, 9, 1], ((1,), (1,), (2,))),
        ([1, 1, 2, 2], ((1, 2), (0, 0), (0, 2))),
        ([1, 9, 1, 1], ((1, 1), (0, 0), (0, 2))),
        ([9, 1, 9, 9, 2, 9], ((1, 2), (0, 1), (1, 4))),
    ],
)
def test_ctc_spans_end_where_a_token_is_first_seen(ids: list[int], spans: tuple[tuple[int, ...], ...]) -> None:
    assert ctc_spans(ids, blank=9) == spans


# --- Punctuation


@pytest.mark.parametrize(
    ("family", "mark", "word"),
    [("ctc", (7, 7), (0, 7)), ("rnnt", (7, 9), (0, 9)), ("tdt", (3, 3), (0, 3)), ("cif", (7, 9), (0, 9))],
)
def test_a_mark_lies_where_its_family_puts_it(family: str, mark: tuple[int, int], word: tuple[int, int]) -> None:
    hypothesis = spread(CHARACTERS, "hi.", (0, 1, 7), (1, 3, 9))
    found = timestamps(hypothesis, CHARACTERS, 1.0, family=family)
    assert found.chars[-1] == Span(".", *mark)
    assert found.words == found.segments == (Span("hi.", *word),)


def test_a_space_before_a_mark_is_dropped_but_not_one_behind_it() -> None:
    found = frames(timestamps(one_a_frame("so , it"), CHARACTERS, 1.0, family="rnnt"))
    assert found["words"] == [["so,", 0, 4], ["it", 5, 7]]


def test_a_mark_takes_the_place_of_a_space_or_underscore() -> None:
    found = frames(timestamps(one_a_frame("b a."), CHARACTERS, 1.0, family="rnnt", word_separator="a"))
    assert found["words"] == [["b.", 0, 4]]
    labels = Labels(("a", "_", ".", " ", ""))
    found = frames(timestamps(spread(labels, "a_.", (0, 1, 2), (1, 2, 3)), labels, 1.0, family="rnnt"))
    assert found["words"] == [["a.", 0, 3]]


def test_a_mark_joins_its_word_across_a_token_without_text() -> None:
    labels = Labels(("a", "_", ".", " ", ""))
    hypothesis = Hypothesis(tokens=(0, 3, 4, 2), starts=(0, 1, 2, 3), ends=(1, 2, 3, 4))
    found = frames(timestamps(hypothesis, labels, 1.0, family="rnnt"))
    assert found["words"] == [["a .", 0, 4]]


def test_punctuation_comes_from_tokens_inside_words_only() -> None:
    assert punctuation(Labels(("<u-k>", "[a.b]", "##!", "▁;", " ", "a?", "'s"))) == {"?", "'"}


# --- Words and segments


def test_first_word_starts_with_the_separators_before_it() -> None:
    found = frames(timestamps(one_a_frame("  ab c"), CHARACTERS, 1.0, family="rnnt"))
    assert found["words"] == [["ab", 0, 4], ["c", 5, 6]]


def test_another_word_separator() -> None:
    found = frames(timestamps(one_a_frame("abcade"), CHARACTERS, 1.0, family="rnnt", word_separator="c"))
    assert found["words"] == [["ab", 0, 2], ["ade", 3, 6]]


def test_separators_end_segments() -> None:
    found = frames(timestamps(one_a_frame("is it? no. so"), CHARACTERS, 1.0, family="rnnt"))
    assert found["segments"] == [["is it?", 0, 6], ["no.", 7, 10], ["so", 11, 13]]
    found = frames(timestamps(one_a_frame("is it? no"), CHARACTERS, 1.0, family="rnnt", segment_separators=("is",)))
    assert found["segments"] == [["is", 0, 2], ["it? no", 3, 9]]


def test_gaps_end_segments_and_separators_count_at_the_first_word_only() -> None:
    hypothesis = spread(CHARACTERS, "a. b c. d", (0, 1, 2, 3, 4, 5, 6, 7, 20), (1, 2, 3, 4, 5, 6, 7, 8, 21))
    found = frames(timestamps(hypothesis, CHARACTERS, 1.0, family="rnnt", segment_gap=12))
    assert found["segments"] == [["a.", 0, 2], ["b c.", 3, 7], ["d", 20, 21]]
    found = frames(timestamps(hypothesis, CHARACTERS, 1.0, family="rnnt", segment_gap=14))
    assert found["segments"] == [["a.", 0, 2], ["b c. d", 3, 21]]


def test_a_mark_behind_a_word_without_text_is_kept() -> None:
    """NeMo fails here."""
    tokenizer = TOKENIZERS["bpe"]
    names = tokenizer.pieces(range(tokenizer.vocab_size))
    tokens = tuple(names.index(piece) for piece in ("▁", "!", "."))
    hypothesis = Hypothesis(tokens=tokens, starts=(0, 1, 2), ends=(1, 2, 3))
    found = frames(timestamps(hypothesis, tokenizer, 1.0, family="rnnt", word_separator="!"))
    assert found["words"] == [[".", 0, 3]]


@pytest.mark.parametrize("family", ["ctc", "rnnt", "tdt", "cif"])
def test_nothing_found_gives_nothing(family: str) -> None:
    assert timestamps(Hypothesis(tokens=(), starts=(), ends=()), CHARACTERS, 0.08, family=family) == Timestamps()


def test_times_are_seconds() -> None:
    found = timestamps(spread(CHARACTERS, "a", (3,), (5,)), CHARACTERS, 0.08, family="tdt")
    assert found.chars == found.words == found.segments == (Span("a", 3 * 0.08, 5 * 0.08),)


def test_spans_have_to_be_as_many_as_tokens() -> None:
    with pytest.raises(ValueError, match="shorter"):
        timestamps(Hypothesis(tokens=(1, 2), starts=(0,), ends=(1,)), CHARACTERS, 0.08, family="rnnt")
