"""No word is lost or doubled where chunks meet: recordings of known words, put together at random, transcribed in chunks.

`data/words.nemo`, which `data/make_words_model.py` trained, knows the six words of the recordings in `tests/nemo-cases` in any
order.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import sonant
from sonant_asr.long import encoding

DATA = Path(__file__).parent / "data"
CASES = Path(__file__).resolve().parents[3] / "tests" / "nemo-cases"
RATE = 16000
WORDS = {  # the seconds each lies at
    "a.wav": {"front": (0.04, 0.56), "center": (0.76, 1.36), "rear": (1.62, 2.14), "left": (2.40, 2.93)},
    "b.wav": {"side": (0.0, 0.60), "right": (0.78, 1.30)},
}
Said = list[tuple[str, float, float]]


@cache
def model() -> Any:
    return sonant.load(DATA / "words.nemo", device="cpu", dtype="float32")


@cache
def talk(seed: int, count: int) -> tuple[Any, Said]:
    """So many words with pauses of a twentieth of a second to one and a half, and where each is."""
    random = np.random.default_rng(seed)
    clips = {}
    for file, words in WORDS.items():
        sound = soundfile.read(CASES / file, dtype="float32")[0]
        clips |= {word: sound[int(start * RATE) : int(stop * RATE)] for word, (start, stop) in words.items()}
    parts, said, at = [], [], 0
    for word in random.choice(list(clips), count):
        pause = int(random.uniform(0.05, random.choice([0.2, 0.5, 1.5])) * RATE)
        said.append((str(word), (at + pause) / RATE, (at + pause + len(clips[word])) / RATE))
        parts += [np.zeros(pause, np.float32), clips[word]]
        at += pause + len(clips[word])
    return np.concatenate(parts), said


def text(said: Said) -> str:
    return " ".join(word for word, _, _ in said)


@pytest.mark.parametrize("decoder", ["ctc", "rnnt"])
@pytest.mark.parametrize("chunking", ["full", "local", "chunks:1", "chunks:2.5", "chunks:7"])
def test_every_word_is_there_once(chunking: str, decoder: str) -> None:
    """A chunk of one second cuts nearly every one of them."""
    sound, said = talk(0, 60)
    (found,) = model().transcribe(sound, chunking=chunking, decoder=decoder, timestamps="word")
    assert found.text == text(said)
    for span, (word, start, stop) in zip(found.words, said, strict=True):
        assert span.text == word
        assert start - 0.5 < span.end and span.start < stop + 0.5


@pytest.mark.parametrize("seed", range(1, 4))
def test_wherever_the_chunks_meet(seed: int) -> None:
    sound, said = talk(seed, 20)
    for seconds in (1.3, 1.9, 4.1):
        (found,) = model().transcribe(sound, chunking=f"chunks:{seconds}")
        assert found.text == text(said), seconds


def test_without_the_overlap_words_would_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "CONTEXT", 0.0)
    sound, said = talk(0, 60)
    (found,) = model().transcribe(sound, chunking="chunks:1")
    assert found.text != text(said)
