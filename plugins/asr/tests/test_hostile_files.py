"""Language models that somebody made to do harm, and models that name files which are not theirs."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import sonant
from sonant.errors import AudioError, CheckpointError, ConfigError
from sonant_asr.fusion.building import language_model
from sonant_asr.fusion.kenlm.header import read_header
from sonant_asr.tokenizers.char import Char
from sonant_asr.tokenizers.config import CharConfig

DATA = Path(__file__).resolve().parent / "data"
MODEL = Path(__file__).resolve().parents[3] / "tests" / "nemo-cases" / "fastconformer_ctc_bpe.nemo"
CHAR = Char(CharConfig(labels=["a"]))


CANARY = MODEL.parent / "canary2_aed.nemo"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder whose search names the language model that lies in it."""
    path = sonant.save(sonant.load(MODEL, device="cpu", dtype="float32"), tmp_path_factory.mktemp("hostile") / "model")
    shutil.copy(DATA / "fusion.arpa", path / "lm.arpa")
    name_language_model(path, "lm.arpa")
    return path


def name_language_model(folder: Path, name: str) -> None:
    document = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    document["search"] = {"name": "ctc_beam", "fusion": {"lm": name}}
    (folder / "config.yaml").write_text(yaml.safe_dump(document), "utf-8")


@pytest.mark.parametrize("kind", ["trie", "quantized", "compressed", "both"])
@pytest.mark.parametrize("pointers", [(2**62, 2**63, 3 * 2**62), (2**64 - 1,), (2**40,), (5, 4)])
def test_pointers_of_a_trie_that_lead_elsewhere_are_refused(kind: str, pointers: tuple[int, ...]) -> None:
    data = bytearray((DATA / f"fusion.{kind}.kenlm").read_bytes())
    header, tokenizer = read_header(bytes(data)), sonant.load(MODEL, device="cpu").tokenizer
    tables = 0
    if header.is_quantized:  # they come between the words and the 1-grams
        bits = data[header.size + 8 + 8 * header.counts[0] :][1:3]
        tables = 8 + 4 * ((len(header.counts) - 1 << bits[0]) + (len(header.counts) - 2 << bits[1]))
    begin = header.size + 8 + 8 * header.counts[0] + tables
    for number, pointer in enumerate(pointers, 1):
        struct.pack_into("<Q", data, begin + 16 * number + 8, pointer)
    with pytest.raises(ConfigError, match="it is a KenLM file whose trie is damaged"):
        language_model(bytes(data), "lm", tokenizer)


@pytest.mark.parametrize("count", [2**31, 2**61, 2**64 - 1])
@pytest.mark.parametrize("kind", ["probing", "trie", "quantized", "compressed"])
def test_counts_of_more_than_a_file_holds_are_refused(kind: str, count: int) -> None:
    whole = (DATA / f"fusion.{kind}.kenlm").read_bytes()
    header, tokenizer = read_header(whole), sonant.load(MODEL, device="cpu").tokenizer
    at = whole.index(struct.pack("<3Q", *header.counts[:3]))
    for place in range(len(header.counts)):
        data = bytearray(whole)
        struct.pack_into("<Q", data, at + 8 * place, count)
        with pytest.raises(ConfigError, match="the language model lm: it is a KenLM file"):
            language_model(bytes(data), "lm", tokenizer)


def test_a_long_number_takes_no_room_in_every_line() -> None:
    """As text in an array these 50 lines and one number of 8 MB would be 400 MB."""
    tokenizer = Char(CharConfig(labels=["a", *(chr(0x400 + n) for n in range(50))]))
    words = list(tokenizer.pieces(range(tokenizer.vocab_size)))
    number = "-1." + "0" * 8_000_000
    lines = [f"{number if n == 0 else -1}\t{word}" for n, word in enumerate(words)]
    text = "\n".join(["\\data\\", f"ngram 1={len(words)}", "", "\\1-grams:", *lines, "", "\\end\\", ""])
    peak = _peak(lambda: language_model(text.encode(), "lm", tokenizer, writing="pieces"))
    assert peak < 100_000_000


def _peak(act: Any) -> int:
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_gzip_file_that_expands_without_measure_is_refused() -> None:
    bomb = gzip.compress(bytes(2**26))
    assert len(bomb) < 2**17
    with pytest.raises(ConfigError, match="the language model lm: it is a gzip file that holds more than 100 times its size"):
        language_model(bomb, "lm", CHAR)


def test_an_order_that_no_model_has_is_refused() -> None:
    header = "\n".join(["\\data\\", *(f"ngram {n}=0" for n in range(1, 50_000))])
    with pytest.raises(ConfigError, match="it declares n-grams of up to 49999 words; at most 20 are read"):
        language_model(header.encode(), "lm", CHAR)


def test_the_language_model_of_a_model_is_its_own(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not the file of that name where the command runs."""
    (tmp_path / "lm.arpa").write_text("secret")
    monkeypatch.chdir(tmp_path)
    model: Any = sonant.load(folder, device="cpu", dtype="float32")
    own, other = model.search, model.search_for(model.decoder, listening={"boost": ["front"]})
    assert (len(own.scorers), len(other.scorers)) == (1, 2)
    assert torch.equal(own.scorers[0].automaton.scores, other.scorers[0].automaton.scores)
    with pytest.raises(ConfigError, match=r"the language model lm\.arpa: it has no \\data\\ line"):  # the caller's file
        model.search_for(model.decoder, listening={"lm": "lm.arpa"})


@pytest.mark.parametrize("name", ["../outside.arpa", "/etc/passwd", "lm\0.arpa"])
def test_a_language_model_outside_a_model_is_not_read(name: str, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "outside.arpa").write_text("secret")
    name_language_model(tmp_path / "model", name)
    with pytest.raises(CheckpointError, match="leads out of the checkpoint; refused") as caught:
        sonant.load(tmp_path / "model", device="cpu")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("context", ["so <|endoftext|>", "<|de|>", 5, ["so"]])
def test_the_context_that_a_manifest_gives_is_text(context: Any, tmp_path: Path) -> None:
    row = {"audio_filepath": str(MODEL.parent / "a.wav"), "context": context}
    (tmp_path / "talks.jsonl").write_text(json.dumps(row))
    with pytest.raises(ConfigError, match=r"a\.wav: context: .*(is not text|cannot stand in text)"):
        sonant.load(CANARY, device="cpu").transcribe(tmp_path / "talks.jsonl")


def test_a_recording_of_an_endless_name_is_told(tmp_path: Path) -> None:
    (tmp_path / "talks.jsonl").write_text(json.dumps({"audio_filepath": "a" * 5000}))
    with pytest.raises(AudioError, match="it cannot be looked for: File name too long"):
        sonant.load(MODEL, device="cpu").transcribe(tmp_path / "talks.jsonl")


@pytest.mark.parametrize("name", ["endoftext", "<|endoftext|>", "startoftranscript", "nopnc", "xx"])
def test_a_language_is_no_other_token(name: str, tmp_path: Path) -> None:
    row = {"audio_filepath": str(MODEL.parent / "a.wav"), "source_lang": name}
    (tmp_path / "talks.jsonl").write_text(json.dumps(row))
    with pytest.raises(ConfigError, match=r"a\.wav: source_lang='\w+': this model knows .*\ben\b"):
        sonant.load(CANARY, device="cpu").transcribe(tmp_path / "talks.jsonl")
