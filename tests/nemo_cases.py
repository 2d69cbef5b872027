"""The checkpoints that NeMo wrote, and what it computes from them (`nemo-cases/README.md`)."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor

import sonant

CASES = Path(__file__).resolve().parent / "nemo-cases"
LARGEST_ERROR = 1e-5


@cache
def meta(name: str) -> Any:
    """What was written down of a case: texts, tokens, times."""
    return json.loads((CASES / f"{name}.json").read_text("utf-8"))


@cache
def arrays(name: str) -> dict[str, Tensor]:
    """NeMo's outputs, stage by stage."""
    with np.load(CASES / f"{name}.npz") as found:
        return {key: torch.from_numpy(found[key]) for key in found}


@cache
def model(name: str) -> Any:
    """The checkpoint, opened here."""
    return sonant.load(CASES / f"{name}.nemo", device="cpu", dtype="float32")


def noisy(path: Path) -> np.ndarray[Any, Any]:
    """A recording with white noise, 25 dB below it."""
    sound = soundfile.read(path, dtype="float32")[0]
    noise = np.random.default_rng(2).standard_normal(len(sound)).astype(np.float32)
    return sound + noise * np.sqrt((sound**2).mean()) * np.float32(10 ** (-25 / 20))
