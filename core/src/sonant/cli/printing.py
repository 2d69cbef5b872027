"""How commands print: aligned columns for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click


def table(rows: Sequence[tuple[str, ...]]) -> None:
    """Rows of cells in columns as wide as they need to be."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def as_json(value: Any) -> None:
    """JSON, indented, in the characters it has."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
