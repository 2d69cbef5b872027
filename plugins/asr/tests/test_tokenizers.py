"""Tokenizers: text to ids and back."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from sonant.build import instantiate
from sonant.config import fill_section
from sonant.errors import CheckpointError, ConfigError
from sonant.files import Files
from sonant.nemo.archive import NemoArchive
from sonant_asr.tokenizers.aggregate import Aggregate
from sonant_asr.tokenizers.char import Char
from sonant_asr.tokenizers.config import AggregateConfig, CharConfig, SentencePieceConfig
from sonant_asr.tokenizers.sentencepiece import SentencePiece

CASES = Path(__file__).resolve().parents[3] / "tests" / "nemo-cases"
TEXTS = ["front center rear left", "side right", "she sells sea shells", "a", ""]
LETTERS = [" ", *"abcdefghijklmnopqrstuvwxyz", "'"]


@cache
def model_file(case: str) -> bytes:
    """The SentencePiece model in a checkpoint."""
    with NemoArchive(CASES / f"{case}.nemo") as archive:
        return archive.read(next(name for name in archive.sizes() if name.endswith("tokenizer.model")))


FILES = {"one.model": model_file("fastconformer_tdt_bpe"), "two.model": model_file("conformer_ctc_bpe"), "bad.model": b"no model"}


def files() -> Files:
    return Files.of(dict(FILES), "the test")


def pieces(file: str = "one.model") -> SentencePiece:
    return SentencePiece(SentencePieceConfig(file=file), files=files())


def chars(labels: list[str] = LETTERS) -> Char:
    return Char(CharConfig(labels=labels))


def aggregate(**langs: dict[str, Any]) -> Aggregate:
    return Aggregate(AggregateConfig(langs=langs), files=files())


def subwords() -> Aggregate:
    return aggregate(en={"name": "sentencepiece", "file": "one.model"}, de={"name": "sentencepiece", "file": "two.model"})


def letters() -> Aggregate:
    return aggregate(en={"name": "char", "labels": [" ", "a", "b"]}, de={"name": "char", "labels": [" ", "ä", "a"]})


@pytest.mark.parametrize("text", TEXTS)
def test_sentencepiece_is_its_library(text: str) -> None:
    ours, theirs = pieces(), sentencepiece.SentencePieceProcessor(model_proto=FILES["one.model"])
    ids = theirs.encode(text)
    assert ours.encode(text) == ids
    assert ours.decode(ids) == text
    assert ours.pieces(ids) == theirs.encode(text, out_type=str)
    assert ours.vocab_size == theirs.vocab_size()


def test_sentencepiece_pieces_mark_where_words_begin() -> None:
    ours = pieces()
    assert "".join(ours.pieces(ours.encode("front center"))) == "▁front▁center"


def test_a_file_that_is_no_sentencepiece_model() -> None:
    with pytest.raises(CheckpointError, match=r"bad\.model is not a SentencePiece model"):
        pieces("bad.model")


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(CheckpointError, match=r"none\.model"):
        pieces("none.model")


@pytest.mark.parametrize("text", [*TEXTS, "  two  spaces ", " "])
def test_char_round_trip_keeps_spaces(text: str) -> None:
    ours = chars()
    ids = ours.encode(text)
    assert ids == [LETTERS.index(c) for c in text]
    assert ours.decode(ids) == text
    assert ours.pieces(ids) == list(text)
    assert ours.vocab_size == len(LETTERS)


def test_char_names_the_characters_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="'ß漢'"):
        chars().encode("a ß b 漢 ß")


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        ({"name": "char", "labels": []}, "must not be empty"),
        ({"name": "char", "labels": ["a", "b", "a"]}, "more than once: 'a'"),
        ({"name": "aggregate", "langs": {}}, "must not be empty"),
        ({"name": "aggregate", "langs": {"en": {"name": "char", "labels": ["a", "a"]}}}, r"tokenizer\.langs\.en.*'a'"),
        ({"name": "aggregate", "langs": {"en": {"name": "chars", "labels": ["a"]}}}, "char"),
        ({"name": "sentencepiece"}, "file"),
    ],
)
def test_configs_that_make_no_sense(section: dict[str, Any], reason: str) -> None:
    with pytest.raises((ConfigError, LookupError), match=reason):
        instantiate(fill_section("tokenizer", section, "tokenizer"), "tokenizer", {"files": files()})


def test_aggregate_ids_are_one_range_after_the_other() -> None:
    ours, en, de = subwords(), pieces("one.model"), pieces("two.model")
    assert ours.vocab_size == en.vocab_size + de.vocab_size
    assert ours.encode("side right") == ours.encode("side right", "en") == en.encode("side right")
    assert ours.encode("side right", "de") == [i + en.vocab_size for i in de.encode("side right")]
    assert ours.pieces(range(ours.vocab_size)) == en.pieces(range(en.vocab_size)) + de.pieces(range(de.vocab_size))
    assert [ours.language(i) for i in (0, en.vocab_size - 1, en.vocab_size, ours.vocab_size - 1)] == ["en", "en", "de", "de"]


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("text", TEXTS)
def test_aggregate_round_trip(text: str, language: str) -> None:
    assert subwords().decode(subwords().encode(text, language)) == text


def test_aggregate_of_characters() -> None:
    ours = letters()
    assert ours.encode("a b") == [1, 0, 2]
    assert ours.encode("ä a", "de") == [4, 3, 5]
    assert ours.decode([1, 0, 2, 3, 4, 5, 0]) == "a b äa "
    assert ours.pieces([0, 3, 4]) == [" ", " ", "ä"]
    with pytest.raises(ValueError, match="'b'"):
        ours.encode("b", "de")


def test_words_of_two_languages_stay_apart() -> None:
    ours = subwords()
    mixed = ours.encode("front center") + ours.encode("rear left", "de") + ours.encode("side")
    assert ours.decode(mixed) == "front center rear left side"


def test_a_word_goes_on_over_a_switch_of_language() -> None:
    """A piece that begins no word is joined to what is before it."""
    ours = subwords()
    inner = next(i for i, piece in enumerate(pieces("two.model").pieces(range(60))) if piece.isalpha())
    inner += pieces("one.model").vocab_size
    assert ours.decode([*ours.encode("front"), inner]) == "front" + ours.pieces([inner])[0]


def test_an_unknown_language() -> None:
    with pytest.raises(ValueError, match="no language 'fr'; it has en, de"):
        letters().encode("a", "fr")


def test_three_parts() -> None:
    ours = aggregate(**{lang: {"name": "char", "labels": [c]} for lang, c in (("x", "p"), ("y", "q"), ("z", "r"))})
    assert ours.decode([2, 0, 1]) == "rpq"
    assert [ours.language(i) for i in range(3)] == ["x", "y", "z"]
