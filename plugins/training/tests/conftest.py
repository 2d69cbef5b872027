"""Fixtures: small corpora that the tests write themselves, and a task that gives back what it is fed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from attrs import frozen
from torch import Tensor

from sonant.training import Example

RATE = 8000


@frozen
class Fed:
    """A batch as it was collated."""

    names: tuple[str, ...]
    texts: tuple[str, ...]
    wavs: tuple[Tensor, ...]

    def to(self, device: Any) -> Fed:
        return Fed(self.names, self.texts, tuple(wav.to(device) for wav in self.wavs))


class Echo:
    """A task whose batches are the examples themselves. It learns nothing of a text `?`."""

    def prepare(self, example: Example) -> tuple[str, str, Tensor]:
        if example.row["text"] == "?":
            raise ValueError("'?' is not in the vocabulary")
        return Path(example.name).name, example.row["text"], torch.from_numpy(example.samples)

    def collate(self, prepared: Sequence[tuple[str, str, Tensor]]) -> Fed:
        names, texts, wavs = zip(*prepared, strict=True)
        return Fed(names, texts, wavs)


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def corpus(tmp_path: Path) -> Callable[..., Path]:
    """Writes recordings of so many seconds each, all different, and their manifest, which it returns."""

    def write(seconds: Sequence[float], name: str = "train.jsonl", **extra: Any) -> Path:
        rows = []
        for number, length in enumerate(seconds):
            random = np.random.default_rng([number, len(name)])
            samples = 0.1 * random.standard_normal(round(length * RATE))
            path = tmp_path / f"{Path(name).stem}_{number}.wav"
            soundfile.write(path, samples, RATE, subtype="PCM_16")
            rows.append({"audio_filepath": path.name, "text": f"text {number}", "duration": length, **extra})
        manifest = tmp_path / name
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        return manifest

    return write
