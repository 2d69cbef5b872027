"""Bars as inline SVG: error rate by duration, by speaker. Colours come from the page's style sheet."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

from attrs import frozen

from sonant_asr.evaluation.errors import Errors, Unit
from sonant_asr.evaluation.scores import Utterance

_EDGES: Final = (0, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)  # seconds
_WIDTH, _LEFT, _RIGHT, _TOP, _ROW = 720, 150, 200, 30, 26
_PLOT: Final = _WIDTH - _LEFT - _RIGHT
_MOST_BARS = 30
_LONGEST_LABEL = 20
K = TypeVar("K", int, str)

_NAMES: Final[dict[Unit, str]] = {"word": "words", "char": "characters"}


@frozen
class Bar:
    """A group of utterances: how many, and their errors."""

    label: str
    utterances: int
    errors: Errors


def by_duration(utterances: Iterable[Utterance], unit: Unit) -> list[Bar]:
    """Groups from short to long, of utterances whose duration is known."""
    groups = _grouped(utterances, unit, lambda u: None if u.pair.duration is None else _bin(u.pair.duration))
    return [Bar(_bin_label(edge), *groups[edge]) for edge in sorted(groups)]


def by_speaker(utterances: Iterable[Utterance], unit: Unit) -> list[Bar]:
    """Speakers from the highest error rate down, of utterances whose speaker is known."""
    groups = _grouped(utterances, unit, lambda u: u.pair.speaker)
    bars = [Bar(speaker, *group) for speaker, group in groups.items()]
    return sorted(bars, key=lambda bar: (-(bar.errors.rate or 0.0), bar.label))


def _grouped(
    utterances: Iterable[Utterance], unit: Unit, group_of: Callable[[Utterance], K | None]
) -> dict[K, tuple[int, Errors]]:
    groups: dict[K, tuple[int, Errors]] = {}
    for utterance in utterances:
        group = group_of(utterance)
        if group is not None:
            size, errors = groups.get(group, (0, Errors()))
            groups[group] = (size + 1, errors + utterance.errors(unit))
    return groups


def _bin(seconds: float) -> int:
    return max(edge for edge in _EDGES if edge <= seconds)


def _bin_label(edge: int) -> str:
    above = [other for other in _EDGES if other > edge]
    return f"{edge} to {above[0]} s" if above else f"from {edge} s"


def svg(title: str, bars: Sequence[Bar], overall: Errors, unit: Unit) -> str:
    """A bar for each group, its rate and size beside it, and a line at the rate of all together."""
    shown = bars[:_MOST_BARS]
    top = _ceiling(max([bar.errors.rate or 0.0 for bar in shown] + [overall.rate or 0.0]))
    height = _TOP + _ROW * len(shown) + 6
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" role="img" aria-label="{escape(title)}">',
        *(_gridline(top * step / 4, top, height) for step in range(5)),
        *(_bar(bar, number, top, unit) for number, bar in enumerate(shown)),
        _overall(overall, top, height),
        "</svg>",
    ]
    left_out = len(bars) - len(shown)
    note = f"<p>{left_out} more with lower rates are not drawn.</p>" if left_out else ""
    return f'<figure><figcaption>{escape(title)}</figcaption><div class="scroll">{"".join(parts)}</div>{note}</figure>'


def _ceiling(rate: float) -> float:
    """A round number at or above `rate`, where the axis ends."""
    if rate <= 0:
        return 0.1
    power = 10.0 ** math.floor(math.log10(rate))
    return next(power * step for step in (1, 2, 4, 5, 8, 10) if power * step >= rate * (1 - 1e-9))


def _x(rate: float, top: float) -> float:
    return round(_LEFT + _PLOT * rate / top, 1)


def _gridline(rate: float, top: float, height: int) -> str:
    x = _x(rate, top)
    return (
        f'<line class="grid" x1="{x}" y1="{_TOP - 6}" x2="{x}" y2="{height}"/>'
        f'<text class="tick" x="{x}" y="{_TOP - 12}" text-anchor="middle">{100 * rate:.3g}&#160;%</text>'
    )


def _bar(bar: Bar, number: int, top: float, unit: Unit) -> str:
    y = _TOP + _ROW * number
    middle = y + _ROW / 2 + 4
    rate = bar.errors.rate
    end = _x(rate or 0.0, top)
    size = f"{bar.utterances:,} utterances" if bar.utterances != 1 else "1 utterance"
    label = bar.label if len(bar.label) <= _LONGEST_LABEL else f"{bar.label[: _LONGEST_LABEL - 1]}…"
    full = f"{bar.label}: {percent(rate)}, {bar.errors.errors:,} errors in {bar.errors.reference:,} {_NAMES[unit]}, {size}"
    return (
        f"<g><title>{escape(full)}</title>"
        f'<text x="{_LEFT - 8}" y="{middle}" text-anchor="end">{escape(label)}</text>'
        f'<rect class="bar" x="{_LEFT}" y="{y + 4}" width="{round(end - _LEFT, 1)}" height="{_ROW - 8}"/>'
        f'<text class="value" x="{_WIDTH - _RIGHT + 10}" y="{middle}">{percent(rate)}'
        f'<tspan class="size" dx="8">{size}</tspan></text></g>'
    )


def _overall(overall: Errors, top: float, height: int) -> str:
    if overall.rate is None:
        return ""
    x = _x(overall.rate, top)
    line = f'<line class="overall" x1="{x}" y1="{_TOP - 6}" x2="{x}" y2="{height}">'
    return f"{line}<title>all: {percent(overall.rate)}</title></line>"


def percent(rate: float | None) -> str:
    """A rate as people read it."""
    return "undefined" if rate is None else f"{100 * rate:.2f} %"


def escape(text: str) -> str:
    """Text for a page, in attributes too; what no file can hold (half a surrogate pair) becomes a question mark."""
    return html.escape(text.encode("utf-8", "replace").decode("utf-8"))
