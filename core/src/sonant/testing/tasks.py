"""What a task promises: it runs, and a saved model is the same model."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from sonant.checkpoint import load, save
from sonant.inputs import Item
from sonant.runtime import Batch
from sonant.testing import samples
from sonant.testing.check import Skipped, require
from sonant.testing.subject import Subject

_SECONDS = (2.0, 1.3, 0.4)


def _model(subject: Subject) -> Any:
    model = subject.build()
    if not hasattr(model, "preprocessor"):
        raise Skipped("the contract does not say yet how a task without a preprocessor is run")
    return model


def _infer(model: Any) -> list[Any]:
    rate = int(model.preprocessor.sample_rate)
    wav, lens = samples.batch([int(s * rate) for s in _SECONDS], scale=0.1)
    items = tuple(Item(None, f"recording {n}") for n in range(len(_SECONDS)))
    return list(model.infer(Batch(wav, lens, items)))


def infers(subject: Subject) -> None:
    """`infer` gives one result for each recording of a batch."""
    results = _infer(_model(subject))
    require(len(results) == len(_SECONDS), f"{len(_SECONDS)} recordings gave {len(results)} results")


def saved_and_opened(subject: Subject) -> None:
    """A model that was saved and opened again gives equal results."""
    model = _model(subject)
    with tempfile.TemporaryDirectory() as folder:
        again = load(save(model, Path(folder) / "model"), device="cpu", dtype="float32")
        found, wanted = _infer(again), _infer(model)
    require(found == wanted, f"saved and opened again, it gives another result: {wanted} became {found}")


CHECKS = (infers, saved_and_opened)
