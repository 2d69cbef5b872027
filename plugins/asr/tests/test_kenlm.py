"""KenLM's binary files that are damaged, of other versions, or made to harm. That good ones are read right is in
`test_fusion_nemo.py`."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from sonant.errors import ConfigError
from sonant_asr.fusion.building import language_model
from sonant_asr.fusion.kenlm.hashing import combine, word_hash
from sonant_asr.tokenizers.char import Char
from sonant_asr.tokenizers.config import CharConfig

DATA = Path(__file__).resolve().parent / "data"
KINDS = ("probing", "trie", "quantized", "compressed", "both", "wordless")
TOKENIZER = Char(CharConfig(labels=[chr(0x4E00 + n) for n in range(96)]))  # the files name tokens by characters chr(id + 100)
COUNTS = 88 + 20  # where the numbers of n-grams stand


def content(kind: str) -> bytes:
    return (DATA / f"fusion.{kind}.kenlm").read_bytes()


def changed(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def test_words_are_hashed_as_published() -> None:
    """Values of MurmurHash64A with seed 0, from its author's C++."""
    assert word_hash(b"") == 0
    assert f"{word_hash(b'<s>'):016x}" == "00758639bd217e70"
    assert f"{word_hash(b'a longer word, of several blocks'):016x}" == "a04678a7ea74eacf"


def test_keys_are_combined_word_by_word() -> None:
    key = combine(np.array([3], np.uint64), np.array([5], np.uint64))
    assert int(key[0]) == (3 * 8978948897894561157 % 2**64) ^ (6 * 17894857484156487943 % 2**64)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_cut_off_is_refused(kind: str) -> None:
    data = content(kind)
    words = 8 if kind == "wordless" else sum(len(word.encode()) + 1 for word in vocabulary())  # behind all that is read
    for size in [60, 100, 120, *range(200, len(data) - words, 97)]:
        with pytest.raises(ConfigError, match="KenLM file"):
            language_model(data[:size], "lm", TOKENIZER)


def vocabulary() -> list[str]:
    text = (DATA / "fusion.arpa").read_text("utf-8").split("\\1-grams:\n")[1].split("\n\n")[0]
    return [line.split("\t")[1] for line in text.split("\n")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_gives_an_error_or_a_model_with_finite_scores(kind: str) -> None:
    random = np.random.default_rng(0)
    data, refused = content(kind), 0
    for _ in range(50):
        at = int(random.integers(56, len(data)))
        try:
            scorer = language_model(changed(data, at, random.bytes(1)), "lm", TOKENIZER)
        except ConfigError:
            refused += 1
            continue
        scores, following = scorer.advance(scorer.start(2, "cpu"))
        assert torch.isfinite(scores).all()
        assert torch.isfinite(scorer.advance(following[0])[0]).all()
    assert refused > 5


HEADERS = {
    "version": (49, b"4", "version '4' or of another machine; make it again from its ARPA file with build_binary"),
    "machine": (60, struct.pack(">f", 1.0), "of another machine"),
    "rest costs": (96, struct.pack("<I", 1), "of probing hash tables with rest costs, version 0, which is not read"),
    "no such type": (96, struct.pack("<I", 17), "of type 17, version 0, which is not read"),
    "another layout": (104, struct.pack("<I", 9), "of probing hash tables, version 9, which is not read"),
    "order": (88, b"\xff", "damaged header"),
    "multiplier": (92, struct.pack("<f", float("nan")), "damaged header"),
    "count": (COUNTS, struct.pack("<Q", 2**63), "cut off, or whose header is damaged"),
}


@pytest.mark.parametrize("what", HEADERS)
def test_a_file_of_another_kind_is_refused(what: str) -> None:
    at, new, message = HEADERS[what]
    with pytest.raises(ConfigError, match=message):
        language_model(changed(content("probing"), at, new), "lm", TOKENIZER)


def test_a_model_over_other_words_is_refused() -> None:
    few = Char(CharConfig(labels=[chr(0x4E00 + n) for n in range(20)]))
    with pytest.raises(
        ConfigError, match=r"not the tokens of this model: as pieces it has 90 others among its 92 words and as ids"
    ):
        language_model(content("trie"), "lm", few)
