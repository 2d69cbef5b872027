"""One side beside another: what they took, and what they computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sonant.benchmarking.percentiles import percentiles


def figures(times: Mapping[str, Sequence[float]], audio: float | None = None) -> dict[str, Any]:
    """Medians, percentiles, speeds and ratios; a ratio above 1 means that Sonant is the faster."""
    found = {name: percentiles(values) for name, values in times.items()}
    seconds = {name: values["50"] for name, values in found.items()}
    row: dict[str, Any] = {
        "seconds": seconds,
        "ratio": {name: median / seconds["sonant"] for name, median in seconds.items() if name != "sonant"},
    }
    if audio is not None:
        row["percentiles"] = found
        row["times_real_time"] = {name: audio / median for name, median in seconds.items()}
        row["real_time_factor"] = {name: median / audio for name, median in seconds.items()}
    return row


def outputs(part: str, first: Mapping[str, dict[str, Any]], files: Mapping[str, str]) -> list[str]:
    """How far what the rivals computed is from Sonant's."""
    others = [name for name in first if name != "sonant"]
    if part == "encoder":
        return [f"{name}: {_difference(files['sonant'], files[name])}" for name in others]
    ours = first["sonant"]["value"]
    if not any(ours) and not any(text for name in others for text in first[name]["value"]):
        return ["no text on any side"] if others else []
    return [f"{name}: {_alike(ours, first[name]['value'])}" for name in others]


def _difference(ours: str, theirs: str) -> str:
    worst = 0.0
    with np.load(ours) as mine, np.load(theirs) as other:
        for n in range(sum(name.startswith("x") for name in mine)):
            for a, b, count in zip(mine[f"x{n}"], other[f"x{n}"], mine[f"lens{n}"].tolist(), strict=True):
                if len(b) < count or a.shape[1:] != b.shape[1:]:
                    return f"frames {b.shape}, not {(count, *a.shape[1:])}"
                worst = max(worst, float(np.abs(a[:count] - b[:count]).max(initial=0.0)))
    return f"largest difference of outputs {worst:.1e}"


def _alike(ours: Sequence[str], theirs: Sequence[str]) -> str:
    same = sum(a.split() == b.split() for a, b in zip(ours, theirs, strict=True))
    return f"same words {same} of {len(ours)}"
