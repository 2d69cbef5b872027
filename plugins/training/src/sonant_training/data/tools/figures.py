"""Pictures of what manifests hold, by matplotlib: for a page as SVG, or all in one file."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from sonant_training.data.tools.statistics import Statistics, Values

_BLUE, _LIGHT, _DARK, _GRID = "#4c6ef5", "#dbe4ff", "#1b1d21", "#dee2e6"
_BARS: Final = 20
_CHARACTERS: Final = 32
_LONGEST_NAME: Final = 18
_STYLE: Final[Any] = {  # matplotlib types the name of every setting
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#868e96",
    "axes.axisbelow": True,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "text.color": _DARK,
    "text.parse_math": False,  # names and words come from manifests
    "svg.hashsalt": "sonant",
}


def svgs(statistics: Statistics) -> dict[str, str]:
    """Every picture that there is something to show in, by what it is of, as SVG."""
    return {title: _svg(title, draw, statistics) for title, draw in _panels(statistics).items()}


def save(statistics: Statistics, path: Path) -> None:
    """All pictures in one file, as its suffix says: `.png`, `.svg`, `.pdf`."""
    panels = _panels(statistics)
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    with _style():
        figure = Figure(figsize=(5.2 * columns, 3.6 * lines), layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False).flat
        for title, draw in panels.items():
            ax = next(axes)
            draw(ax, statistics)
            ax.set_title(title)
        for unused in axes:
            unused.set_axis_off()
        figure.savefig(path, dpi=130, metadata={} if path.suffix == ".png" else {_DATES[path.suffix]: None})


_DATES: Final = {".svg": "Date", ".pdf": "CreationDate"}


def _svg(title: str, draw: Callable[[Axes, Statistics], None], statistics: Statistics) -> str:
    content = io.StringIO()
    with _style():
        figure = Figure(figsize=(6, 3.4), layout="constrained")
        ax = figure.add_subplot()
        draw(ax, statistics)
        figure.savefig(content, format="svg", metadata={"Date": None, "Title": title})
    return content.getvalue()


@contextmanager
def _style() -> Iterator[None]:
    with mpl.rc_context(_STYLE):
        yield


def _panels(statistics: Statistics) -> dict[str, Callable[[Axes, Statistics], None]]:
    """What there is something to show of."""
    panels: dict[str, Callable[[Axes, Statistics], None]] = {"Durations": _durations}
    if len(statistics.values("characters a second")):
        panels |= {"Characters a second": _paces, "Length of the text by duration": _lengths}
    if len(statistics.speakers) > 1:
        panels["Audio by speaker"] = _speakers
    if statistics.words:
        panels |= {"Characters": _characters, "Words by rank": _ranks}
    return panels


def _durations(ax: Axes, statistics: Statistics) -> None:
    _histogram(ax, statistics.values("seconds"), "seconds")


def _paces(ax: Axes, statistics: Statistics) -> None:
    _histogram(ax, statistics.values("characters a second"), "characters a second")


def _histogram(ax: Axes, values: Values, unit: str) -> None:
    """A row more or less far out does not press all others into one bar: the last bar has what is beyond."""
    end = float(np.percentile(values, 99.5))
    end = end * 1.1 if float(values.max()) > 1.3 * end > 0 else float(values.max())
    shown = np.minimum(values, end)
    ax.hist(shown, bins=min(50, max(5, len(values) // 5)), color=_BLUE, edgecolor="white", linewidth=0.4)
    median = float(np.median(values))
    ax.axvline(median, color=_DARK, linewidth=1, linestyle="--")
    ax.annotate(f"median {median:.3g}", (median, 1), (4, -2), ("data", "axes fraction"), "offset points", va="top", fontsize=9)
    beyond = int(np.count_nonzero(values > end))
    ax.set_xlabel(unit + (f" (the last bar: up to {values.max():,.3g})" if beyond else ""))
    ax.set_ylabel("rows")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(axis="y", color=_GRID)


def _lengths(ax: Axes, statistics: Statistics) -> None:
    """Rows off the band have another text than was said, or much silence."""
    entries = [entry for entry in statistics.entries if entry.text and entry.seconds > 0]
    seconds = np.array([entry.seconds for entry in entries])
    characters = np.array([len(entry.text) for entry in entries])
    size = 14 if len(entries) < 500 else 5
    ax.scatter(
        seconds, characters, s=size, color=_BLUE, alpha=0.6 if len(entries) < 2000 else 0.25, linewidths=0, rasterized=True
    )
    ax.set(xlabel="seconds", ylabel="characters", xlim=(0, None), ylim=(0, None))
    ax.grid(color=_GRID)


def _speakers(ax: Axes, statistics: Statistics) -> None:
    found = statistics.largest(statistics.speakers)
    shown = found[:_BARS][::-1]
    most = found[0][1].seconds
    scale, unit = (3600, "hours") if most > 7200 else (60, "minutes") if most > 120 else (1, "seconds")
    ax.barh(range(len(shown)), [group.seconds / scale for _, group in shown], color=_BLUE)
    ax.set_yticks(range(len(shown)), [_name(name) for name, _ in shown])
    ax.tick_params(axis="y", labelsize=8 if len(shown) > 10 else 10)
    ax.set_xlabel(unit + (f" ({len(found) - len(shown):,} speakers with less are not shown)" if len(found) > len(shown) else ""))
    ax.grid(axis="x", color=_GRID)


def _characters(ax: Axes, statistics: Statistics) -> None:
    found = statistics.characters.most_common(_CHARACTERS)
    total = statistics.characters.total()
    ax.bar(range(len(found)), [100 * count / total for _, count in found], color=_BLUE)
    labels = ["␣" if character == " " else _drawable(character) for character, _ in found]
    ax.set(xlim=(-0.7, len(found) - 0.3))
    ax.set_xticks(range(len(found)), labels, fontsize=9, rotation=0 if all(len(label) == 1 for label in labels) else 90)
    different = len(statistics.characters)
    ax.set_xlabel(f"the most frequent of {different:,}" if different > len(found) else "all that there are")
    ax.set_ylabel("percent")
    ax.grid(axis="y", color=_GRID)


def _ranks(ax: Axes, statistics: Statistics) -> None:
    """Words by how often they occur are near a straight line in natural language (Zipf's law)."""
    counts = np.sort(np.fromiter(statistics.words.values(), dtype=np.int64))[::-1]
    ax.loglog(np.arange(1, len(counts) + 1), counts, color=_BLUE, linewidth=2)
    once = int(np.count_nonzero(counts == 1))
    ax.set(xlabel=f"rank ({len(counts):,} words, {once:,} of them once)", ylabel="times")
    ax.fill_between(np.arange(1, len(counts) + 1), 1, counts, color=_LIGHT)
    ax.set(xlim=(1, None), ylim=(1, None))
    for axis in (ax.xaxis, ax.yaxis):  # the usual powers of ten are mathematics, which is off
        axis.set_major_locator(LogLocator())
        axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axis.set_minor_formatter(NullFormatter())
    ax.grid(color=_GRID)


def _name(name: str) -> str:
    name = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    return "".join(c if _has_glyph(c) else "?" for c in name)


def _drawable(character: str) -> str:
    """The character, or its number where the font has no picture of it."""
    return character if character.isprintable() and _has_glyph(character) else f"{ord(character):04X}"


def _has_glyph(character: str) -> bool:
    font = font_manager.get_font(font_manager.findfont(font_manager.FontProperties()))
    return bool(font.get_char_index(ord(character)))
