"""`sonant data make`: each layout gives the rows that are meant, and what is left out is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from sonant import inputs
from sonant.cli.main import app
from sonant_training.data.tools.validating import validate


def record(path: Path, seconds: float = 0.5) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = 0.3 * np.sin(np.arange(round(16000 * seconds)) * (0.1 + 0.01 * len(list(path.parent.iterdir()))))
    soundfile.write(path, tone, 16000)


def texts_of(manifest: Path) -> dict[str, str]:
    return {item.name: item.row["text"] for item in inputs.expand(manifest)}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    return lambda *args: CliRunner().invoke(app, ["data", "make", *args], prog_name="sonant")


def test_texts_beside_the_recordings(run: Callable[..., Result], tmp_path: Path) -> None:
    record(tmp_path / "set/b/one.wav", 0.75)
    record(tmp_path / "set/a/two.flac")
    record(tmp_path / "set/three.WAV")
    (tmp_path / "set/b/one.txt").write_text("\ufeffeins\n  zwei\n", "utf-8")
    (tmp_path / "set/a/two.lab").write_text("drei", "utf-8")
    (tmp_path / "set/three.txt").write_text("vier", "utf-8")
    done = run("set", "-o", "lists/all.jsonl", "--lang", "de", "--speaker", "anna")
    assert (done.exit_code, done.stderr) == (0, "wrote lists/all.jsonl: 3 rows, 1.8 s\n")
    rows = [json.loads(line) for line in (tmp_path / "lists/all.jsonl").read_text("utf-8").splitlines()]
    common = {"lang": "de", "speaker": "anna"}
    assert rows == [
        {"audio_filepath": "../set/a/two.flac", "text": "drei", "duration": 0.5, **common},
        {"audio_filepath": "../set/b/one.wav", "text": "eins zwei", "duration": 0.75, **common},
        {"audio_filepath": "../set/three.WAV", "text": "vier", "duration": 0.5, **common},
    ]
    assert validate([tmp_path / "lists/all.jsonl"]).found == []


def test_librispeech(run: Callable[..., Result], tmp_path: Path) -> None:
    for chapter, words in (("84/121123", "GO DO YOU HEAR"), ("84/121550", "BUT WITH FULL")):
        stem = chapter.replace("/", "-")
        for n in range(2):
            record(tmp_path / f"dev-clean/{chapter}/{stem}-000{n}.flac")
        lines = f"{stem}-0000 {words}\n{stem}-0001 {words} AGAIN\n"
        (tmp_path / f"dev-clean/{chapter}/{stem}.trans.txt").write_text(lines)
    assert run("dev-clean", "-o", "dev.jsonl").exit_code == 0
    assert texts_of(tmp_path / "dev.jsonl") == {
        "dev-clean/84/121123/84-121123-0000.flac": "GO DO YOU HEAR",
        "dev-clean/84/121123/84-121123-0001.flac": "GO DO YOU HEAR AGAIN",
        "dev-clean/84/121550/84-121550-0000.flac": "BUT WITH FULL",
        "dev-clean/84/121550/84-121550-0001.flac": "BUT WITH FULL AGAIN",
    }


def test_tables(run: Callable[..., Result], tmp_path: Path) -> None:
    for name in ("LJ001.wav", "clips/a.mp3", "x/same.wav", "y/same.wav"):
        record(tmp_path / "set" / name)
    (tmp_path / "set/LJ001.txt").write_text("not this one")
    (tmp_path / "lj.csv").write_text("LJ001|in 1455 AD|in fourteen fifty-five\n", "utf-8")
    (tmp_path / "cv.tsv").write_text("a.mp3\tone | two\n\nx/same\tthe first\ny/same.wav\tthe second\n", "utf-8")
    done = run("set", "-o", "all.jsonl", "--texts", "lj.csv", "--texts", "cv.tsv")
    assert done.exit_code == 0, done.stderr
    assert texts_of(tmp_path / "all.jsonl") == {
        "set/LJ001.wav": "in fourteen fifty-five",
        "set/clips/a.mp3": "one | two",
        "set/x/same.wav": "the first",
        "set/y/same.wav": "the second",
    }
    (tmp_path / "wide.tsv").write_text("client\ta.mp3\tone\n")
    assert "wide.tsv:1: more than two columns" in run("set", "-o", "new.jsonl", "--texts", "wide.tsv").stderr
    (tmp_path / "more.tsv").write_text("a.mp3\tanother\n")
    refused = run("set", "-o", "new.jsonl", "--texts", "cv.tsv", "--texts", "more.tsv")
    assert refused.exit_code == 1
    assert "more.tsv:1: another text of 'a.mp3', which has one already: 'one | two'" in refused.stderr


def test_what_is_left_out_is_said(run: Callable[..., Result], tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav", "c.wav"):
        record(tmp_path / "set" / name)
        (tmp_path / "set" / name).with_suffix(".txt").write_text("text")
    (tmp_path / "set/b.txt").unlink()
    (tmp_path / "set/c.wav").write_bytes(b"RIFF")
    done = run("set", "-o", "all.jsonl")
    assert done.exit_code == 1
    assert "wrote all.jsonl: 1 row" in done.stderr
    assert "left out: 1 without a text, as set/b.wav; 1 that cannot be read, as set/c.wav: not readable as audio" in done.stderr
    assert list(texts_of(tmp_path / "all.jsonl")) == ["set/a.wav"]


def test_nothing_is_written_of_nothing(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    assert "set: no recordings in this folder; looked for .aif" in run("set", "-o", "all.jsonl").stderr
    record(tmp_path / "set/a.wav")
    assert "all.jsonl is not written: 1 without a text, as set/a.wav" in run("set", "-o", "all.jsonl").stderr
    (tmp_path / "set/a.txt").write_bytes(b"\xff\xfe")
    assert "set/a.txt cannot be read as text in UTF-8" in run("set", "-o", "all.jsonl").stderr
    assert not (tmp_path / "all.jsonl").exists()
    (tmp_path / "all.jsonl").write_text("mine")
    assert "already there; pass --overwrite" in run("set", "-o", "all.jsonl").stderr
    assert (tmp_path / "all.jsonl").read_text() == "mine"
