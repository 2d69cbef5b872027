"""Random numbers that follow from numbers, so that none need be saved: what is drawn, for what, in which epoch."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What is drawn. Each has a stream of its own, so that switching one on does not change the others."""

    ORDER = 1
    BATCHES = 2
    WEIGHT = 3
    SPEED = 4
    SHIFT = 5
    ROOM = 6
    NOISE = 7
    WHITE_NOISE = 8
    VOLUME = 9
    SHARDS = 10


def generator(seed: int, purpose: Purpose, *numbers: int) -> np.random.Generator:
    """The stream of a purpose, in an epoch, of an example, and which time it comes."""
    return np.random.default_rng([seed, int(purpose), *numbers])
