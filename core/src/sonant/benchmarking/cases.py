"""What is measured on: noise of some length, or recordings; as WAV files, so that every side is given the same samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile
from attrs import frozen

from sonant import audio, inputs
from sonant.errors import AudioError
from sonant.inputs import Item

_LOUDNESS: Final = 0.1
_CHANGES: Final = 4  # of the loudness, in a second


@frozen(kw_only=True)
class Case:
    """Recordings that are worked on together. One pass over all of them, in batches in their order, is what is timed."""

    name: str
    files: tuple[str, ...]
    batch: int
    seconds: float

    def batches(self) -> Iterator[tuple[str, ...]]:
        """The files of each batch."""
        for start in range(0, len(self.files), self.batch):
            yield self.files[start : start + self.batch]


def noise(seconds: Sequence[float], batches: Sequence[int], rate: int, folder: Path) -> list[Case]:
    """A case for each length and size of batch: one batch of so many noises, each another."""
    cases = []
    for length in seconds:
        files: list[str] = []
        for number in range(max(batches)):
            files.append(str(folder / f"noise-{length:g}-{number}.wav"))
            soundfile.write(files[-1], _noise(length, rate, number), rate, "PCM_16")
        cases += [
            Case(name=f"{length:g} s" + _times(size), files=tuple(files[:size]), batch=size, seconds=length * size)
            for size in batches
        ]
    return cases


def _times(size: int) -> str:
    return "" if size == 1 else f" x {size}"


def _noise(seconds: float, rate: int, number: int) -> Any:
    """`(N,)`: white noise that comes and goes, as speech does."""
    draw = np.random.default_rng(number)
    count = max(1, round(seconds * rate))
    corners = draw.uniform(0, _LOUDNESS, round(seconds * _CHANGES) + 2)
    loudness = np.interp(np.arange(count) * _CHANGES / rate, np.arange(len(corners)), corners)
    return draw.standard_normal(count) * loudness


def found(sources: Sequence[str]) -> list[Item]:
    """The recordings of files, folders and manifests, before any is read.

    Raises:
        AudioError: there is none, or it is not there.
    """
    items = inputs.expand(list(sources))
    for item in items:
        if isinstance(item.source, Path) and not item.source.exists():
            raise AudioError(f"{item.name}: there is no such file")
    return items


def recordings(sources: Sequence[str], batches: Sequence[int], rate: int, folder: Path) -> list[Case]:
    """A case for each size of batch: all recordings of files, folders and manifests, mono and at `rate`, in their order.

    Raises:
        AudioError: one cannot be read, or there are none.
    """
    files, total = [], 0
    for number, item in enumerate(found(sources)):
        try:
            samples = item.read(rate)
        except AudioError as error:
            raise AudioError(f"{item.name}: {error}") from error
        files.append(str(folder / f"{number:05}.wav"))
        soundfile.write(files[-1], samples, rate, "PCM_16")
        total += len(samples)
    name = f"{len(files)} recordings" if len(files) > 1 else f"{total / rate:.1f} s"
    return [Case(name=name + _by(size), files=tuple(files), batch=size, seconds=total / rate) for size in batches]


def _by(size: int) -> str:
    return "" if size == 1 else f", by {size}"


def read(files: Sequence[str], rate: int) -> list[Any]:
    """The samples of each, `(N,)` float32."""
    return [audio.read(file, rate) for file in files]
