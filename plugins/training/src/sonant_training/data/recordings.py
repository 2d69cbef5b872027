"""The audio of examples at some speeds, decoded once where there is a cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from attrs import frozen

from sonant.audio import Samples
from sonant_training.data.cache import Cache
from sonant_training.data.catalog import Catalog

_SLACK = 0.5  # seconds that a recording may be longer than its manifest says, and a quarter of that


@frozen(kw_only=True, eq=False)
class Recordings:
    """Reads the examples of a catalog as samples `(N,)` at `sample_rate` Hz, of one channel or of all, averaged."""

    catalog: Catalog
    sample_rate: int
    channel: int | None
    speeds: tuple[float, ...]
    cache: Cache | None

    def read(self, index: int, row: dict[str, Any], speed: float = 1.0) -> Samples:
        """The samples of an example, played at one of `speeds` or as it is.

        Raises:
            AudioError: it cannot be read.
        """
        if self.cache is None:
            return self._make(index, row, speed)
        place = index * len(self.speeds) + self.speeds.index(speed)
        return self.cache.get(place, lambda: self._make(index, row, speed))

    def _make(self, index: int, row: dict[str, Any], speed: float) -> Samples:
        if speed == 1.0:
            return self.catalog.read(index, row, self.sample_rate, self.channel)
        return change_speed(self.read(index, row), self.sample_rate, speed)


def recordings(catalog: Catalog, *, sample_rate: int, channel: int | None, speeds: Sequence[float], cache: bool) -> Recordings:
    """A reader of a catalog's recordings, at these speeds and as they are.

    Raises:
        DataError: a cache is asked for, and there is not enough memory for it.
    """
    kept = tuple(dict.fromkeys([1.0, *speeds]))
    store = None
    if cache:
        longest = (catalog.seconds * 1.25 + _SLACK)[:, None] / np.array(kept)
        store = Cache(np.ceil(longest * sample_rate).astype(np.int64).ravel() + 1)
    return Recordings(catalog=catalog, sample_rate=sample_rate, channel=channel, speeds=kept, cache=store)


def change_speed(samples: Samples, sample_rate: int, factor: float) -> Samples:
    """Played `factor` times as fast, tempo and pitch together: resampled, and called by the old rate."""
    import soxr

    changed: Samples = soxr.resample(samples, sample_rate * factor, sample_rate, quality="HQ").astype(np.float32, copy=False)
    return changed if len(changed) else samples[:1]
