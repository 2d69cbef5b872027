"""How many examples of a bucket share a batch."""

from __future__ import annotations

import numpy as np

from sonant_training.data.bucketing import Buckets
from sonant_training.data.catalog import Floats, Integers
from sonant_training.data.config import DataConfig

_DEFAULT_BATCH_SIZE = 16
_EPSILON = 1e-9


def costs(config: DataConfig, buckets: Buckets, seconds: Floats, bucket: Integers) -> Floats:
    """Which part of a batch each example takes, on one device: a batch of `n` fits where `n` times its dearest is at most 1."""
    if config.bucket_batch_size:
        return 1 / np.array([*config.bucket_batch_size, 1], dtype=np.float64)[np.minimum(bucket, len(buckets))]
    parts = []
    if config.batch_duration is not None:
        quadratic = seconds**2 / config.quadratic_duration if config.quadratic_duration is not None else 0.0
        parts.append((seconds + quadratic) / config.batch_duration)
    if config.batch_size is not None or not parts:
        parts.append(np.full(len(seconds), 1 / (config.batch_size or _DEFAULT_BATCH_SIZE)))
    return np.max(parts, axis=0)


def pack(window: Integers, bucket: Integers, cost: Floats, devices: int) -> tuple[list[Integers], Integers]:
    """Cut examples into batches for so many devices together; returns the batches, and what is left, less than one.

    Each bucket is cut in the order of `window`. What is left of the buckets is cut in the order of buckets, so that neighbours
    share a batch. `bucket` and `cost` are indexed by what `window` holds.
    """
    order = window[np.argsort(bucket[window], kind="stable")]
    batches: list[Integers] = []
    rests = []
    for members in np.split(order, np.flatnonzero(np.diff(bucket[order])) + 1):
        full, rest = _pack(members, cost[members], devices)
        batches += full
        rests.append(rest)
    left = np.concatenate(rests)
    full, rest = _pack(left, cost[left], devices)
    return batches + full, rest


def _pack(members: Integers, cost: Floats, devices: int) -> tuple[list[Integers], Integers]:
    batches: list[Integers] = []
    start = 0
    most = devices * int(1 / cost.min() + _EPSILON) + devices if len(cost) else 0
    while start < len(members):
        dearest = np.maximum.accumulate(cost[start : start + most])
        each = np.arange(len(dearest)) // devices + 1
        fits = each * dearest <= 1 + _EPSILON
        size = len(fits) if fits.all() else int(np.argmin(fits))
        if start + size == len(members) and (size % devices or (size // devices + 1) * dearest[-1] <= 1 + _EPSILON):
            break  # there is room for more
        size = max(size - size % devices, devices)  # an example that does not fit comes alone
        if start + size > len(members):
            break
        batches.append(members[start : start + size])
        start += size
    return batches, members[start:]
