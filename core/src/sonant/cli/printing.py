"""How commands print: aligned columns for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click


def table(rows: Sequence[tuple[str, ...]]) -> None:
    """Rows of cells in columns as wide as they need to be."""
    rows = [tuple(map(shown, row)) for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def shown(text: str) -> str:
    """Text as a terminal may have it: what a stranger's file holds could move the cursor or hide lines."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def size(count: int) -> str:
    """Bytes as people read them: `3.1 kB`."""
    value, units = float(count), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while value >= 999.5 and unit != "TB":
        value, unit = value / 1000, next(units)
    return f"{value:.0f} {unit}" if unit == "B" or value >= 99.95 else f"{value:.1f} {unit}"


def as_json(value: Any) -> None:
    """JSON, indented, in the characters it has but for those that a terminal would obey."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    click.echo("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


def as_yaml(value: Any) -> None:
    """YAML, in the order it has; as ASCII where it holds what a terminal would obey."""
    import yaml

    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    if any(not (c.isprintable() or c == "\n") for c in text):
        text = yaml.safe_dump(value, sort_keys=False)
    click.echo(text.rstrip())
