"""Numbers as people read them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """`7.2 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60:02d} min"


def figure(value: float) -> str:
    """Three digits and more where they are before the point: `0.0213`, `2.13`, `21.3`, `2,134`."""
    return f"{value:,.0f}" if abs(value) >= 99.95 else f"{value:.3g}"


def part(value: float) -> str:
    """A part as a percentage."""
    return f"{100 * value:.3g} %"
