"""Checkpoints for tests: the cases in the repository, opened once; ways to damage them; what they compute."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import sonant
from sonant import weights
from sonant.errors import CheckpointError, SonantError

CASES = Path(__file__).resolve().parents[2] / "tests" / "nemo-cases"
NAMES = sorted(path.stem for path in CASES.glob("*.nemo"))
BPE, CHAR, HYBRID = "fastconformer_ctc_bpe", "conformer_rnnt_char", "fastconformer_hybrid_tdt_ctc_bpe"
WAV = torch.sin(torch.arange(24000) / 20 + torch.arange(24000) ** 2 / 4e6)[None] * 0.3
LENS = torch.tensor([24000])


@cache
def model(name: str) -> Any:
    return sonant.load(CASES / f"{name}.nemo", device="cpu", dtype="float32")


def rewrite(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    data = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    change(data)
    (folder / "config.yaml").write_text(yaml.safe_dump(data), "utf-8")


def refusal(path: Path | str, kind: type[SonantError] = CheckpointError, **options: Any) -> str:
    """The one line that opening answers with."""
    with pytest.raises(kind) as caught:
        sonant.load(path, device="cpu", **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def assert_equal(state: weights.State, expected: weights.State) -> None:
    assert state.keys() == expected.keys()
    for name, tensor in expected.items():
        assert state[name].dtype == tensor.dtype and torch.equal(state[name], tensor), name


@torch.inference_mode()
def outputs(found: Any) -> list[torch.Tensor]:
    """What it computes on a sweep, at every stage."""
    feats, lens = found.preprocessor(WAV, LENS)
    enc, lens = found.encoder(feats, lens)
    labels = torch.ones(1, 3, dtype=torch.int64)
    inputs = {"ctc": (enc,), "aed": (enc, lens, labels, torch.tensor([3]))}
    heads = [head(*inputs.get(family, (enc, labels))) for family, head in found.decoders.items()]
    return [feats, enc, lens, *(head["logits"] if isinstance(head, dict) else head for head in heads)]
