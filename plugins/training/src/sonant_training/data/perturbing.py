"""What chance does to the waveforms of training. It follows from the seed, the epoch and the example, whoever reads it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen

from sonant import inputs
from sonant.audio import Samples
from sonant.errors import AudioError
from sonant.inputs import Item
from sonant_training.data import filenames, waveforms
from sonant_training.data.cache import Cache
from sonant_training.data.config import PerturbConfig
from sonant_training.data.planning import Place
from sonant_training.data.randomness import Purpose, generator
from sonant_training.errors import DataError


@frozen(kw_only=True, eq=False)
class Sounds:
    """Recordings that are mixed in: noises, or impulse responses. `seconds` says how long each is."""

    items: tuple[Item, ...]
    seconds: tuple[float, ...]
    sample_rate: int
    cache: Cache | None

    def __len__(self) -> int:
        return len(self.items)

    def whole(self, index: int) -> Samples:
        """All of one."""
        if self.cache is None:
            return self.items[index].read(self.sample_rate)
        return self.cache.get(index, lambda: self.items[index].read(self.sample_rate))

    def piece(self, index: int, place: float, length: int) -> Samples:
        """`length` samples of one, from a part `place`, 0 to 1, of where a piece may begin; repeated if it is too short."""
        spare = self.seconds[index] - length / self.sample_rate
        if spare <= 0:
            return waveforms.extend(self.whole(index), length)
        first = place * spare
        if self.cache is not None:
            start = int(first * self.sample_rate)
            found = self.cache.get(index, lambda: self.items[index].read(self.sample_rate), slice(start, start + length))
            return waveforms.extend(found, length)
        item = self.items[index]
        from_file = Item(item.source, item.name, item.offset + first, length / self.sample_rate, item.row)
        return waveforms.extend(from_file.read(self.sample_rate), length)


def open_sounds(names: Any, folder: Path, *, sample_rate: int, cache: bool, what: str) -> Sounds:
    """The recordings of manifests or folders.

    Raises:
        DataError: there is none, or one cannot be opened.
    """
    try:
        items = tuple(item for path in filenames.expand(names, folder) for item in inputs.expand(path))
        seconds = tuple(item.seconds(sample_rate) for item in items)
    except (AudioError, OSError) as error:
        raise DataError(f"{what}: {error}") from error
    if not items:
        raise DataError(f"{what}: there is no recording in {names}")
    store = Cache(np.array([int((length + 1) * sample_rate) for length in seconds])) if cache else None
    return Sounds(items=items, seconds=seconds, sample_rate=sample_rate, cache=store)


@frozen(kw_only=True, eq=False)
class Perturbation:
    """All that the config says, but for the speed, which the plan knows."""

    config: PerturbConfig
    seed: int
    sample_rate: int
    rooms: Sounds | None
    noises: Sounds | None

    def __call__(self, samples: Samples, place: Place) -> Samples:
        """Samples `(N,)` of an example, perturbed."""
        for step in (self._shift, self._room, self._noise, self._white_noise, self._volume):
            samples = step(samples, place)
        return samples

    def _random(self, purpose: Purpose, place: Place) -> np.random.Generator:
        return generator(self.seed, purpose, place.epoch, place.example, place.copy)

    def _shift(self, samples: Samples, place: Place) -> Samples:
        config = self.config.shift
        if config is None:
            return samples
        random = self._random(Purpose.SHIFT, place)
        if random.random() >= config.prob:
            return samples
        return waveforms.shift(samples, round(_between(random, config.shift_ms) / 1000 * self.sample_rate))

    def _room(self, samples: Samples, place: Place) -> Samples:
        if self.config.rir is None or self.rooms is None:
            return samples
        random = self._random(Purpose.ROOM, place)
        if random.random() >= self.config.rir.prob:
            return samples
        return waveforms.in_room(samples, self.rooms.whole(int(random.integers(len(self.rooms)))))

    def _noise(self, samples: Samples, place: Place) -> Samples:
        config = self.config.noise
        if config is None or self.noises is None:
            return samples
        random = self._random(Purpose.NOISE, place)
        if random.random() >= config.prob:
            return samples
        noise = self.noises.piece(int(random.integers(len(self.noises))), random.random(), len(samples))
        return waveforms.mix(samples, noise, _between(random, config.snr_db))

    def _white_noise(self, samples: Samples, place: Place) -> Samples:
        config = self.config.white_noise
        if config is None:
            return samples
        random = self._random(Purpose.WHITE_NOISE, place)
        if random.random() >= config.prob:
            return samples
        level = np.float32(10 ** (_between(random, config.level_db) / 20))
        return samples + level * random.standard_normal(len(samples), dtype=np.float32)

    def _volume(self, samples: Samples, place: Place) -> Samples:
        if self.config.volume_db is None:
            return samples
        return waveforms.gain(samples, _between(self._random(Purpose.VOLUME, place), self.config.volume_db))


def _between(random: np.random.Generator, span: Sequence[float]) -> float:
    return random.uniform(span[0], span[1])


def open_perturbation(config: PerturbConfig, folder: Path, *, seed: int, sample_rate: int, cache: bool) -> Perturbation:
    """Make ready what a config names.

    Raises:
        DataError: noises or rooms cannot be opened.
    """
    sounds = {
        key: open_sounds(part.manifest_filepath, folder, sample_rate=sample_rate, cache=cache, what=f"perturb.{key}")
        for key, part in (("rir", config.rir), ("noise", config.noise))
        if part is not None
    }
    return Perturbation(config=config, seed=seed, sample_rate=sample_rate, rooms=sounds.get("rir"), noises=sounds.get("noise"))
