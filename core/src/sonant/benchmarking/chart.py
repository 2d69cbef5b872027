"""Rows as a picture: bars of how many times faster than real time each side is. SVG, alone or in a page with the table."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sonant.benchmarking import table
from sonant.errors import ConfigError

SUFFIXES: Final = (".html", ".svg")
_WIDTH, _LEFT, _RIGHT, _TOP, _ROW, _GAP = 1000, 330, 220, 56, 20, 14
_PLOT: Final = _WIDTH - _LEFT - _RIGHT
_STYLE: Final = """
svg { font: 13px system-ui, sans-serif; background: #fff; }
text { fill: #1b1d21; } .tick, .value { fill: #5c636a; } .grid { stroke: #dee2e6; } .spread { stroke: #1b1d21; }
.sonant { fill: #4c6ef5; } .nemo { fill: #82c91e; } .transformers { fill: #fab005; } .title { font-weight: 600; }
@media (prefers-color-scheme: dark) {
  svg { background: #16181c; } text { fill: #e9ecef; } .tick, .value { fill: #adb5bd; } .grid { stroke: #343a40; }
  .spread { stroke: #e9ecef; }
}
"""
_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 14px system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color-scheme: light dark; }}
table {{ border-collapse: collapse; }} td, th {{ padding: .25rem .6rem; text-align: left; white-space: nowrap; }}
tr + tr td {{ border-top: 1px solid #8884; }} .scroll {{ overflow-x: auto; }} svg {{ max-width: 100%; height: auto; }}
</style>
<h1>{title}</h1>
{picture}
<div class="scroll"><table>{rows}</table></div>
{remarks}
</html>
"""


def check_target(path: Path) -> None:
    """Whether such a picture can be written.

    Raises:
        ConfigError: its suffix says of nothing that can, or its folder is not there.
    """
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"--plot {path}: a picture ends in one of {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise ConfigError(f"--plot {path}: there is no folder {path.parent}")


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw the rows that have a speed into a file."""
    picture = svg(rows)
    if path.suffix == ".html":
        head, *lines = table.lines(rows)
        cells = _line(head, "th") + "".join(_line(line, "td") for line in lines)
        remarks = "".join(f"<p>{html.escape(text)}</p>\n" for text in table.remarks(rows))
        picture = _PAGE.format(title=html.escape(f"{rows[0]['model']}: speed"), picture=picture, rows=cells, remarks=remarks)
    path.write_text(picture, "utf-8")


def _line(cells: Sequence[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>\n"


def svg(rows: Sequence[Mapping[str, Any]]) -> str:
    """A group of bars for each row, a bar for each side; a line from the 20th to the 80th percentile on each."""
    drawn = [row for row in rows if "times_real_time" in row]
    top = _ceiling(max((_range(row, side)[1] for row in drawn for side in row["seconds"]), default=1.0))
    parts, y = [], _TOP
    for row in drawn:
        parts.append(_text(_LEFT - 10, y + _ROW * len(row["seconds"]) / 2 + 4, f"{row['what']}, {row['dtype']}", "end"))
        for side in row["seconds"]:
            parts.append(_bar(row, side, y, top))
            y += _ROW
        y += _GAP
    title = f"{rows[0]['model']} on {rows[0]['device']}: seconds of audio in a second"
    grid = "".join(_gridline(top * step / 4, top, y) for step in range(5))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" width="{_WIDTH}" height="{y}" role="img">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>"
        f'<text class="title" x="10" y="20">{html.escape(title)}</text>{grid}{"".join(parts)}</svg>\n'
    )


def _range(row: Mapping[str, Any], side: str) -> tuple[float, float]:
    """The speeds at the 80th and the 20th percentile of times."""
    found = row["percentiles"][side]
    return row["audio_seconds"] / found["80"], row["audio_seconds"] / found["20"]


def _ceiling(value: float) -> float:
    """A round number at or above `value`, where the axis ends."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in (1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10) if power * step >= value * (1 - 1e-9))


def _x(value: float, top: float) -> float:
    return round(_LEFT + _PLOT * value / top, 1)


def _text(x: float, y: float, text: str, anchor: str = "start", kind: str = "label") -> str:
    return f'<text class="{kind}" x="{x}" y="{y:g}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _gridline(value: float, top: float, bottom: int) -> str:
    x = _x(value, top)
    line = f'<line class="grid" x1="{x}" y1="{_TOP - 8}" x2="{x}" y2="{bottom - _GAP + 4}"/>'
    return line + _text(x, _TOP - 14, f"{value:g}", "middle", "tick")


def _bar(row: Mapping[str, Any], side: str, y: int, top: float) -> str:
    speed, (low, high) = row["times_real_time"][side], _range(row, side)
    middle = y + _ROW / 2
    ratio = f", ratio {row['ratio'][side]:.2f}" if side in row["ratio"] else ""
    width = round(_x(speed, top) - _LEFT, 1)
    return (
        f'<rect class="{html.escape(side)}" x="{_LEFT}" y="{y + 3}" width="{width}" height="{_ROW - 6}"/>'
        f'<line class="spread" x1="{_x(low, top)}" y1="{middle}" x2="{_x(high, top)}" y2="{middle}"/>'
        + _text(_WIDTH - _RIGHT + 10, middle + 4, f"{side} {speed:,.1f}{ratio}", kind="value")
    )
