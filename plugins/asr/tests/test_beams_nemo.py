"""The beam searches against NeMo's: the same texts, times and scores. `data/make_beams.py` says how NeMo's were made."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import sonant
from sonant.build import instantiate
from sonant.config import fill_section
from sonant.files import Files
from sonant.protocols import Hypothesis
from sonant_asr.ctc.config import CtcConfig
from sonant_asr.ctc.model import CtcHead
from sonant_asr.tokenizers.char import Char
from sonant_asr.tokenizers.config import CharConfig
from sonant_asr.transducer.config import RnntConfig, TdtConfig
from sonant_asr.transducer.model import Transducer

DATA = Path(__file__).resolve().parent / "data"
CASES = Path(__file__).resolve().parents[3] / "tests" / "nemo-cases"
NEMO = json.loads((DATA / "beams.json").read_text("utf-8"))
LENS = torch.tensor(NEMO["lens"])
VOCAB, D_IN = 8, 6
TOLERANCE = 1e-3


@cache
def arrays() -> dict[str, Tensor]:
    with np.load(DATA / "beams.npz") as found:
        return {key: torch.from_numpy(found[key]) for key in found}


def made_up(name: str) -> tuple[Any, Tensor, Tensor]:
    """A head of `beams.npz`, its encoder output and the lengths."""
    if name == "ctc":
        head = CtcHead(CtcConfig(), d_in=VOCAB + 1, vocab_size=VOCAB).requires_grad_(False)
        head.out.weight.copy_(torch.eye(VOCAB + 1))
        head.out.bias.zero_()
        return head, arrays()["ctc.logits"], LENS
    weights = {key.removeprefix(f"{name}."): value for key, value in arrays().items() if key.startswith(f"{name}.")}
    enc = weights.pop("enc")
    sizes = {"pred_hidden": 10, "joint_hidden": 12, "pred_rnn_layers": sum("weight_ih" in key for key in weights)}
    config = TdtConfig(**sizes) if name.startswith("tdt") else RnntConfig(**sizes)
    transducer = Transducer(config, d_in=D_IN, vocab_size=VOCAB).eval().requires_grad_(False)
    transducer.load_state_dict(weights)
    return transducer, enc, LENS


@cache
def checkpoint(name: str) -> tuple[Any, dict[str, Any]]:
    with np.load(CASES / f"{name}.npz") as found:
        return sonant.load(CASES / f"{name}.nemo", device="cpu", dtype="float32"), {key: found[key] for key in found}


def noisy(enc: np.ndarray, scale: float, seed: int) -> Tensor:
    noise = np.random.default_rng(seed).standard_normal(enc.shape)
    return torch.from_numpy((enc + scale * enc.std() * noise).astype(np.float32))


def search(name: str, fields: dict[str, Any]) -> Any:
    """By name and NeMo's options, with everything that its beam holds."""
    fields = dict(fields) | {"n_best": fields["beam_size"]}
    if "lm_weight" in fields:
        fields["fusion"] = {"lm": "beams.arpa", "lm_tokens": "ids", "lm_weight": fields.pop("lm_weight")}
    offered = {"tokenizer": Char(CharConfig(labels=list("abcdefgh"))), "files": Files.beside(DATA)}
    return instantiate(fill_section("search", {"name": name, **fields}, "search"), "search", offered)


def assert_same(found: list[Hypothesis], wanted: list[list[dict[str, Any]]], times: str) -> int:
    """Compare n-best lists; returns how many hypotheses there were. Of those that NeMo gives twice, the first counts."""
    assert len(found) == len(wanted)
    count = 0
    for best, rows in zip(found, wanted, strict=True):
        first: dict[tuple[int, ...], dict[str, Any]] = {}
        for row in rows:
            first.setdefault(tuple(row["tokens"]), row)
        ours = (best, *best.alternatives)
        assert [h.tokens for h in ours] == list(first)
        for hypothesis, row in zip(ours, first.values(), strict=True):
            assert hypothesis.score == pytest.approx(row["score"], abs=TOLERANCE)
            assert list(getattr(hypothesis, times)) == row["times"]
            if "durations" in row:
                assert [e - s for s, e in zip(hypothesis.starts, hypothesis.ends, strict=True)] == row["durations"]
            count += 1
    return count


RUNS = [(name, n) for name, rows in NEMO["results"].items() for n in range(len(rows))]


@pytest.mark.parametrize(("name", "number"), RUNS)
@torch.inference_mode()
def test_same_as_nemo(name: str, number: int) -> None:
    run = NEMO["results"][name][number]
    if name.startswith("nemo-cases/"):
        model, case = checkpoint(name.removeprefix("nemo-cases/"))
        key = "enc" if run["search"] != "ctc_beam" else "logprobs" if "logprobs" in case else "ctc_logprobs"
        enc, lens = noisy(case[key], *run["noise"]), torch.from_numpy(case["enc_len"])
        head = model.decoder
        if key == "enc":
            enc = enc.transpose(1, 2)
        else:
            head = CtcHead(CtcConfig(), d_in=enc.shape[-1], vocab_size=enc.shape[-1] - 1).requires_grad_(False)
            head.out.weight.copy_(torch.eye(enc.shape[-1]))
            head.out.bias.zero_()
    else:
        head, enc, lens = made_up(name)
    ends = run["search"] == "ctc_beam" or (run["search"] == "transducer_maes" and head.family == "tdt")
    found = search(run["search"], run["fields"])(head, enc, lens)
    assert assert_same(found, run["found"], "ends" if ends else "starts")
