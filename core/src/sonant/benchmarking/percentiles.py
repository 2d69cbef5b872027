"""Times in numbers that compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

PERCENTILES: Final = (20, 50, 80, 90, 99)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which so many of a hundred lie, on the line between the two nearest; of few values the 99th is about the
    highest."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Those of `PERCENTILES`, by their numbers."""
    return {str(percent): percentile(values, percent) for percent in PERCENTILES}
