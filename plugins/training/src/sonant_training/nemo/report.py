"""What became of a NeMo config on its way: what is left out, what is otherwise than there, and what is still to be filled in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from sonant.nemo import NemoSection

MISSING = "???"
"""How a YAML file of NeMo's, and of ours, says that a value is to be filled in."""


@frozen
class Report:
    """Collects it while a config is read. All name paths: `unused` and `changed` NeMo's, `open` ours."""

    unused: list[str] = field(factory=list)
    changed: list[str] = field(factory=list)
    open: list[str] = field(factory=list)

    def change(self, path: str, what: str) -> None:
        """Say that the training differs from NeMo's."""
        self.changed.append(f"{path}: {what}")

    def close(self, section: NemoSection, idle: frozenset[str] = frozenset()) -> None:
        """Account for what nobody took of a section: `idle` keys change nothing, empty values neither, all others do."""
        for key in section.keys():  # noqa: SIM118 (it is no mapping)
            value, path = section.take(key), f"{section.path}.{key}".lstrip(".")
            if is_empty(value):
                continue
            if key in idle:
                self.unused.append(path)
            else:
                self.change(path, f"{shown(value)} is left out")


def is_empty(value: Any) -> bool:
    """Whether a value switches nothing on: absent, false, zero or empty, or a section that says so itself."""
    if isinstance(value, Mapping):
        return False in (value.get("enabled"), value.get("enable")) or all(map(is_empty, value.values()))
    return value is None or value is False or value in (0, "", [], MISSING)


def shown(value: Any) -> str:
    """A value in one line, not too long."""
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}…"
