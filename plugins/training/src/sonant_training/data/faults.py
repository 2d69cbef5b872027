"""Examples that cannot be used: what is said of them, once each, and what is done."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from attrs import frozen

log = logging.getLogger(__name__)

_SHOWN = 10  # warnings written in full; the others are counted


@frozen
class Fault:
    """One example that was left out. `where` is its manifest and line, `name` its recording, `reason` what is wrong."""

    where: str
    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.name}: {self.reason}" if self.name else f"{self.where}: {self.reason}"


class FaultLog:
    """Warns of each bad example the first time it comes, of the first few in full, and keeps the list."""

    def __init__(self) -> None:
        self.found: dict[str, Fault] = {}

    def add(self, faults: Iterable[Fault]) -> None:
        """Take note of `faults`; those known already are passed over."""
        for fault in faults:
            if fault.where in self.found:
                continue
            self.found[fault.where] = fault
            if len(self.found) <= _SHOWN:
                log.warning("left out: %s", fault)
            if len(self.found) == _SHOWN:
                log.warning("further examples that are left out are counted only; `sonant data validate MANIFEST` lists them all")
