"""Epochs as lists of batches: which examples, in which order, how fast each is played.

An epoch follows from the seed and its number alone, without reading audio. So a run that goes on needs to know only how many
batches it has had, and several devices agree on who takes what without asking each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np
from attrs import evolve, frozen

from sonant_training.data import bucketing, packing
from sonant_training.data.bucketing import Buckets
from sonant_training.data.catalog import Catalog, Floats, Integers
from sonant_training.data.config import DataConfig
from sonant_training.data.randomness import Purpose, generator
from sonant_training.errors import DataError

_FULL = 2  # a bucket has at least so many batches of an epoch, where the config does not name the buckets


@frozen(kw_only=True)
class Place:
    """One example of a pick: its number, which time it comes in its epoch, from 0, and how fast it is played."""

    epoch: int
    example: int
    copy: int
    speed: float


@frozen(kw_only=True, eq=False)
class Pick:
    """A batch that is to be read: the numbers of its examples, which time each comes in the epoch, and how fast it is played."""

    epoch: int
    examples: Integers
    copies: Integers
    speeds: Floats

    def __len__(self) -> int:
        return len(self.examples)

    def take(self, positions: Integers | slice) -> Pick:
        """Some of them."""
        return evolve(self, examples=self.examples[positions], copies=self.copies[positions], speeds=self.speeds[positions])

    def places(self) -> Iterator[Place]:
        """One after the other."""
        for example, copy, speed in zip(self.examples, self.copies, self.speeds, strict=True):
            yield Place(epoch=self.epoch, example=int(example), copy=int(copy), speed=float(speed))


@frozen(kw_only=True, eq=False)
class Plan:
    """How the examples of a catalog become batches, for `devices` together: each takes every so many-th example of a batch.

    No device gets more than the config allows one, and all get as many, for which examples may come twice at the end of an epoch.
    """

    catalog: Catalog
    config: DataConfig
    seed: int
    devices: int
    buckets: Buckets

    def epoch(self, number: int) -> list[Pick]:
        """The batches of one epoch, in order."""
        picks = self._picks(number)
        seconds = self.catalog.seconds[picks.examples] / picks.speeds
        bucket = self.buckets.of(seconds, self.catalog.tokens[picks.examples])
        cost = packing.costs(self.config, self.buckets, seconds, bucket)
        random = generator(self.seed, Purpose.BATCHES, number)
        found: list[Integers] = []
        rest = np.zeros(0, dtype=np.int64)
        for window in self._windows(picks, bucket):
            batches, rest = packing.pack(np.concatenate([rest, window]), bucket, cost, self.devices)
            if self.config.shuffle:
                random.shuffle(batches)
            else:
                batches.sort(key=lambda batch: int(batch.min()))
            found += batches
        if len(rest):
            found.append(np.resize(rest, -(-len(rest) // self.devices) * self.devices))
        return [picks.take(batch) for batch in found]

    def batches(self, skip: int = 0) -> Iterator[Pick]:
        """The batches of epoch after epoch, without the first `skip`."""
        for number in count():
            batches = self.epoch(number)
            yield from batches[skip:]
            skip = max(0, skip - len(batches))

    def _picks(self, epoch: int) -> Pick:
        """All of an epoch, in a random order that stays among few shards at a time."""
        weight = self.catalog.weight
        chance = generator(self.seed, Purpose.WEIGHT, epoch).random(len(weight))
        times = np.floor(weight).astype(np.int64) + (chance < weight % 1)
        examples = np.repeat(np.arange(len(weight)), times)
        copies = np.arange(len(examples)) - np.repeat(np.cumsum(times) - times, times)
        speeds = np.array((self.config.perturb.speed if self.config.perturb is not None else []) or [1.0])
        drawn = speeds[generator(self.seed, Purpose.SPEED, epoch).integers(len(speeds), size=len(examples))]
        picks = Pick(epoch=epoch, examples=examples, copies=copies, speeds=drawn)
        if not self.config.shuffle:
            return picks
        random = generator(self.seed, Purpose.ORDER, epoch)
        return picks.take(np.lexsort((random.random(len(examples)), self._place(picks))))

    def _place(self, picks: Pick) -> Integers:
        """Which shards are mixed: the number of the group that the shard of each example is in, this epoch.

        Examples that are in no shard are spread over all groups.
        """
        random = generator(self.seed, Purpose.SHARDS, picks.epoch)
        shard = self.catalog.shard
        groups = random.permutation(max(1, int(shard.max()) + 1)) // self.config.shuffle_shards
        anywhere = random.integers(int(groups.max()) + 1, size=len(shard))
        return np.where(shard < 0, anywhere, groups[shard])[picks.examples]

    def _windows(self, picks: Pick, bucket: Integers) -> list[Integers]:
        """The positions of picks that are mixed with each other, without those that are in no bucket."""
        positions = np.flatnonzero(bucket < len(self.buckets))
        if not self.config.shuffle:
            return [positions]
        return np.split(positions, np.flatnonzero(np.diff(self._place(picks)[positions])) + 1)


def make(catalog: Catalog, config: DataConfig, *, seed: int, devices: int) -> Plan:
    """The plan of a run.

    Raises:
        DataError: no example is in any of the buckets that the config names.
    """
    if config.bucket_duration_bins:
        buckets = bucketing.given(config.bucket_duration_bins, closed=bool(config.bucket_batch_size))
    else:
        whole = bucketing.estimate(catalog.seconds, catalog.tokens, 1, 1)
        cost = packing.costs(config, whole, catalog.seconds, np.zeros(len(catalog), dtype=np.int64))
        enough = max(1, int(cost.sum() / devices / _FULL / config.num_token_buckets))
        parts = min(config.num_token_buckets, len(catalog))
        buckets = bucketing.estimate(catalog.seconds, catalog.tokens, min(config.num_buckets, enough), parts)
    if (buckets.of(catalog.seconds, catalog.tokens) == len(buckets)).all():
        raise DataError("no example is in any of bucket_duration_bins: all are longer than the last")
    return Plan(catalog=catalog, config=config, seed=seed, devices=devices, buckets=buckets)
