"""Rows of measurements as people read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

HEAD: Final = ("what", "dtype", "side", "median", "20 to 80 %", "90 %", "99 %", "RTF", "times real time", "peak")
NOT_TOLD: Final = "not told by this device"


def lines(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The cells of a table: a line for each side of each row."""
    joules = any("joules" in row for row in rows)
    ratios = any(row["ratio"] for row in rows)
    head = HEAD + (("joules",) if joules else ()) + (("ratio",) if ratios else ())
    return [head, *(cells for row in rows for cells in _sides(row, joules, ratios))]


def _sides(row: Mapping[str, Any], joules: bool, ratios: bool) -> Iterator[tuple[str, ...]]:
    for number, (side, median) in enumerate(row["seconds"].items()):
        cells = ["", ""] if number else [row["what"], row["dtype"]]
        cells += [side, duration(median), *_percentiles(row, side)]
        factor, speed = row.get("real_time_factor", {}).get(side), row.get("times_real_time", {}).get(side)
        cells += ["" if factor is None else f"{factor:.3g}", "" if speed is None else f"{speed:,.1f}"]
        cells.append(f"{row['peak_gib'][side]:.2f} GiB" if row["peak_gib"].get(side) else NOT_TOLD)
        if joules:
            cells.append(f"{row['joules'][side]:.3g}" if "joules" in row else "")
        if ratios:
            cells.append(f"{row['ratio'][side]:.2f}" if side in row["ratio"] else "")
        yield tuple(cells)


def _percentiles(row: Mapping[str, Any], side: str) -> tuple[str, str, str]:
    found = row.get("percentiles", {}).get(side)
    if found is None:
        return "", "", ""
    return f"{duration(found['20'])} to {duration(found['80'])}", duration(found["90"]), duration(found["99"])


def duration(seconds: float) -> str:
    """Seconds with three digits or so: `1.25 s`, `38.1 ms`, `650 us`."""
    if seconds >= 0.9995:
        return f"{seconds:.2f} s"
    if seconds < 0.0009995:
        return f"{1e6 * seconds:.3g} us"
    return f"{1000 * seconds:.0f} ms" if seconds >= 0.0995 else f"{1000 * seconds:.3g} ms"


def remarks(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What else is to be said of the rows: where they were made, with what, what their outputs have in common."""
    first = rows[0]
    programs = ", ".join(f"{v['name']} on torch {v['torch']}" for v in first["versions"].values())
    found = [f"{first['model']} on {first['device']}, {_threads(first['threads'])}; {first['machine']}; {programs}"]
    if any(row["ratio"] for row in rows):
        found.append("ratio: a rival's median over Sonant's, above 1 where Sonant is faster")
    found += [f"{row['what']}, {row['dtype']}: {row['note']}" for row in rows if row["note"]]
    meters = sorted({row["joules_by"] for row in rows if "joules_by" in row})
    return [*found, f"energy: joules of one pass by {meters[0]}" if meters else f"energy: {NOT_TOLD}"]


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"
