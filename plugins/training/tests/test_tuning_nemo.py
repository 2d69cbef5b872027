"""Fine-tuned models against what NeMo computes from the `.nemo` files they were saved as (`data/make_finetuned.py`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

import sonant
from finetuned_cases import FINETUNED, finetuned
from nemo_cases import LARGEST_ERROR
from sonant import lengths
from tuning_models import RECORDINGS

DATA = Path(__file__).parent / "data"


def of_nemo(name: str) -> dict[str, Tensor]:
    with np.load(DATA / "finetuned.npz") as found:
        return {key.removeprefix(f"{name}."): torch.from_numpy(found[key]) for key in found if key.startswith(f"{name}.")}


def notes() -> Any:
    return json.loads((DATA / "finetuned.json").read_text("utf-8"))


def error(ours: Tensor, theirs: Tensor, lens: Tensor) -> float:
    ours, theirs = (torch.cat([row[:n] for row, n in zip(rows, lens.tolist(), strict=True)]) for rows in (ours, theirs))
    return float((ours - theirs).norm() / theirs.norm())


def test_nemo_read_every_case() -> None:
    assert set(notes()) == set(FINETUNED)
    assert [name for name in FINETUNED if "logprobs" not in of_nemo(name)] == ["letters_tdt"]
    assert notes()["adapters"]["encoder"] == "ConformerEncoderAdapter"


@pytest.mark.parametrize("name", FINETUNED)
@torch.inference_mode()
def test_nemo_computes_the_same(tmp_path: Path, name: str) -> None:
    sonant.save(finetuned(name), tmp_path / "tuned.nemo")
    expected, model = of_nemo(name), sonant.load(tmp_path / "tuned.nemo", device="cpu", dtype="float32")
    waves = [torch.from_numpy(soundfile.read(path, dtype="float32")[0]) for path in RECORDINGS]
    enc, lens = model.encode(*lengths.pad(waves))
    assert lens.tolist() == expected["enc_len"].tolist()
    assert error(enc, expected["enc"].transpose(1, 2), lens) < LARGEST_ERROR
    if "logprobs" in expected:
        assert error(model.decoders["ctc"](enc).log_softmax(-1), expected["logprobs"], lens) < LARGEST_ERROR
    texts = [found.text for found in model.transcribe(RECORDINGS)]
    if name == "letters_tdt":  # in writing characters NeMo leaves out the last labels, as many as there are durations
        texts = [text.translate(dict.fromkeys(map(ord, "wxyz'"))) for text in texts]
    assert texts == notes()[name]["text"]
