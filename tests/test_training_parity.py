"""The first hundred steps of training beside NeMo's, from the same weights and batches.

`benchmarks/training_parity.py tests/nemo-cases/fastconformer_ctc_bpe.nemo --against ENV/bin/python --write
tests/nemo-cases/training_curve.json` trained both sides and kept NeMo's losses, with the versions that made them.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CURVE = ROOT / "tests" / "nemo-cases" / "training_curve.json"


def test_losses_of_the_first_hundred_steps_are_nemos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "workers"))
    side = importlib.import_module("sonant_training_worker")
    curve = json.loads(CURVE.read_text())
    shape = {name: curve[name] for name in ("size", "seconds", "labels")}
    side.start(str(CURVE.with_name("fastconformer_ctc_bpe.nemo")), curve["rate"], dropout=0.0, augment=False)
    losses = [side.step(number, **shape) for number in range(100)]
    assert losses == pytest.approx(curve["losses"], abs=1e-3)
    assert losses[-1] < losses[0] / 4, "a curve that does not fall compares little"
