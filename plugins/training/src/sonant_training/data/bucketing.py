"""Buckets of examples that are alike in duration, and in the number of tokens where both cost memory, as in a transducer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from attrs import frozen

from sonant_training.data.catalog import Floats, Integers

_EPSILON = 1e-9


@frozen(kw_only=True, eq=False)
class Buckets:
    """The most `seconds` and the most `tokens` that an example of each bucket has; it is in the first that holds it."""

    seconds: Floats
    tokens: Floats

    def __len__(self) -> int:
        return len(self.seconds)

    def of(self, seconds: Floats, tokens: Integers) -> Integers:
        """The bucket of each example, and their number for what is in none."""
        if np.isinf(self.tokens).all():
            return np.searchsorted(self.seconds, seconds - _EPSILON, side="left")
        found = np.full(len(seconds), len(self), dtype=np.int64)
        for number in reversed(range(len(self))):
            found[(seconds <= self.seconds[number] + _EPSILON) & (tokens <= self.tokens[number])] = number
        return found


def estimate(seconds: Floats, tokens: Integers, num_buckets: int, num_token_buckets: int) -> Buckets:
    """Buckets with about as many seconds in each, divided by tokens into parts with about as many examples each."""
    order = np.sort(seconds)
    total = np.cumsum(order)
    inner = order[np.searchsorted(total, total[-1] * np.arange(1, num_buckets) / num_buckets)]
    ends = np.append(np.unique(inner), np.inf)
    of = np.searchsorted(ends, seconds, side="left")
    parts = np.arange(1, num_token_buckets) / num_token_buckets
    pairs: list[tuple[float, float]] = []
    for number, end in enumerate(ends):
        mine = tokens[of == number]
        divisions: Floats = np.unique(np.quantile(mine, parts, method="lower")) if len(mine) and len(parts) else np.zeros(0)
        pairs += [(float(end), float(division)) for division in divisions] + [(float(end), np.inf)]
    return _of_pairs(pairs)


def given(bins: Sequence[float | Sequence[float]], *, closed: bool) -> Buckets:
    """The buckets that a config names; unless they are `closed`, there is one more for what is beyond the last."""
    pairs = [(float(item[0]), float(item[1])) if isinstance(item, Sequence) else (float(item), np.inf) for item in bins]
    return _of_pairs(pairs if closed else [*pairs, (np.inf, np.inf)])


def _of_pairs(pairs: Sequence[tuple[float, float]]) -> Buckets:
    return Buckets(seconds=np.array([pair[0] for pair in pairs]), tokens=np.array([pair[1] for pair in pairs]))
