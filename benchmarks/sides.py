"""What the benchmarks share: the two sides, each in a process of its own, and where measurements are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sonant.benchmarking.machine import about
from sonant.benchmarking.worker import Worker as Process

__all__ = ["HERE", "Worker", "about"]

HERE = Path(__file__).parent


class Worker:
    """One side: a file of `workers/`, run by the Python of its environment."""

    def __init__(self, python: str, script: str, threads: int) -> None:
        self._process = Process(python, HERE / "workers" / script, threads)
        self.versions = self.ask("versions", threads=threads)["value"]

    def ask(self, action: str, **arguments: Any) -> dict[str, Any]:
        """One request and its answer: `seconds`, `value`, `peak_gib`."""
        return self._process.ask(action, **arguments)

    def close(self) -> None:
        """End it."""
        self._process.close()
