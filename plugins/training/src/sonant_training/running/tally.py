"""Adding up what a validation finds, over batches, sets and processes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from torch import distributed

from sonant.training import Score


class Tally:
    """How much is wrong, and of how much, by measure and by `measure/set`. Losses count by the example."""

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])

    def add(self, name: str, losses: Mapping[str, float], scores: Sequence[Score]) -> None:
        """The mean losses of a batch of the set `name`, and the scores of its examples. An empty name is that of an only set."""
        for measure, value in losses.items():
            self._add(measure, name, value * len(scores), len(scores))
        for score in scores:
            for measure, (wrong, of) in score.counts.items():
                self._add(measure, name, wrong, of)

    def _add(self, measure: str, name: str, wrong: float, of: float) -> None:
        for key in (measure, f"{measure}/{name}") if name else (measure,):
            self._sums[key][0] += wrong
            self._sums[key][1] += of

    def rates(self, strategy: Any) -> dict[str, float]:
        """The rate of each measure, over all processes of a Lightning strategy. One that is of nothing has none."""
        total: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for sums in self._of_all(strategy):  # one process may have had no examples at all
            for name, (wrong, of) in sums.items():
                total[name][0] += wrong
                total[name][1] += of
        return {name: wrong / of for name, (wrong, of) in sorted(total.items()) if of}

    def _of_all(self, strategy: Any) -> list[dict[str, list[float]]]:
        mine = dict(self._sums)
        if getattr(strategy, "world_size", 1) == 1:
            return [mine]
        found: list[Any] = [None] * strategy.world_size
        distributed.all_gather_object(found, mine)
        return found
