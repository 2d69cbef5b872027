"""What a task promises: it runs, alone and in any batch, and a saved model is the same model."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from sonant.checkpoint import load, save
from sonant.testing import alike, calls
from sonant.testing.check import Skipped, require
from sonant.testing.subject import Subject


def _infer(model: Any, rows: slice = slice(None)) -> list[Any]:
    return list(model.infer(calls.recorded(model, rows)))


def infers(subject: Subject) -> None:
    """`infer` gives one result for each recording of a batch."""
    results, wanted = _infer(subject.build()), len(calls.SECONDS)
    require(len(results) == wanted, f"{wanted} recordings gave {len(results)} results")


def batch_invariance(subject: Subject) -> None:
    """A recording gives the same result alone and in any batch."""
    model = subject.build()
    together = _infer(model)
    if len(together) != len(calls.SECONDS):
        raise Skipped("does not give one result for each recording")
    for row, wanted in enumerate(together):
        (alone,) = _infer(model, slice(row, row + 1))
        fault = alike.difference(alone, wanted)
        require(
            not fault,
            f"padding leaks into the result: recording {row + 1} of {len(together)}, of {calls.SECONDS[row]} s, "
            f"gives another one alone than in the batch: {fault}",
        )


def saved_and_opened(subject: Subject) -> None:
    """A model that was saved and opened again gives equal results."""
    model = subject.build()
    wanted = _infer(model)
    with tempfile.TemporaryDirectory() as folder:
        found = _infer(load(save(model, Path(folder) / "model"), device="cpu", dtype="float32"))
    fault = alike.difference(found, wanted)
    require(not fault, f"saved and opened again, it gives another result: {fault}")


CHECKS = (infers, batch_invariance, saved_and_opened)
