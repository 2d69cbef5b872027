"""What NeMo's greedy searches make of noisy encoder output: confidence, and a language model and phrases.

`data/greedy.json` holds for each checkpoint of `tests/nemo-cases`, whose encoder output comes with more and more noise: the
`tokens` and `text` of each utterance; for each `confidence` config the numbers per `token` and `word`, and for some per `frame`
(for transducers a list a frame that was looked at); for each `fusion` config the `tokens`. `data/make_greedy.py` wrote it.
"""

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
from sonant.protocols import Hypothesis
from sonant_asr.recognizer import searching
from sonant_asr.recognizer.text import transcript

DATA = Path(__file__).parent / "data"
CASES = Path(__file__).parents[3] / "tests" / "nemo-cases"
FACTS = json.loads((DATA / "greedy.json").read_text("utf-8"))
MODELS = [name for name in FACTS if name not in ("note", "noises")]


@cache
def recognizer(name: str) -> Any:
    return sonant.load(str(CASES / f"{name}.nemo"), device="cpu")


@cache
def utterances(name: str) -> tuple[Tensor, Tensor]:
    """As `data/make_greedy.py` has them."""
    case = np.load(CASES / f"{name}.npz")
    enc, lens = case["enc"].transpose(0, 2, 1), case["enc_len"]
    noises = FACTS["noises"]
    noise = np.random.default_rng(0).standard_normal((len(noises), *enc.shape)).astype(np.float32) * enc.std()
    batch = np.concatenate([enc + np.float32(size) * one for size, one in zip(noises, noise, strict=True)])
    return torch.from_numpy(batch), torch.from_numpy(np.tile(lens, len(noises)))


@torch.inference_mode()
def found(name: str, **asked: Any) -> list[Hypothesis]:
    model = recognizer(name)
    search = searching.choose(model.decoder, model.tokenizer, None, **asked)
    return list(search(model.decoder, *utterances(name)))


def in_frames(hypothesis: Hypothesis) -> list[list[float]]:
    frames: dict[int, list[float]] = {}
    for frame, confidence in hypothesis.frame_confidence:
        frames.setdefault(frame, []).append(confidence)
    return list(frames.values())


@pytest.mark.parametrize(
    ("name", "case"),
    [(name, case) for name in MODELS for case in FACTS[name]["confidence"]],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_confidence_is_that_of_nemo(name: str, case: dict[str, Any]) -> None:
    model = recognizer(name)
    hypotheses = found(name, confidence=case["config"])
    assert [list(h.tokens) for h in hypotheses] == FACTS[name]["tokens"]
    aggregation = case["config"].get("aggregation", "min")
    for hypothesis, row in zip(hypotheses, case["rows"], strict=True):
        assert hypothesis.token_confidence == pytest.approx(row["token"], abs=1e-4)
        words = transcript(hypothesis, model.tokenizer, model.decoder.family, 0.08, "word", model.config, aggregation).words
        if row["word"] is not None:  # NeMo gives none where it does not find as many words as the text has
            assert [word.confidence for word in words] == pytest.approx(row["word"], abs=1e-4)
        if "frame" in row:
            frames = [x if isinstance(x, list) else [x] for x in row["frame"]]
            for own, theirs in zip(in_frames(hypothesis), frames, strict=True):
                assert own == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize(("name", "case"), [(name, case) for name in MODELS for case in FACTS[name]["fusion"]])
def test_fusion_is_that_of_nemo(name: str, case: dict[str, Any]) -> None:
    config = case["config"]
    asked = {key: config[key] for key in config if key != "lm_weight"}
    if "lm_weight" in config:
        asked |= {"lm": str(DATA / "fusion.arpa"), "lm_weight": config["lm_weight"]}
    assert [list(h.tokens) for h in found(name, asked=asked)] == case["tokens"]


def test_the_data_tells_things_apart() -> None:
    """Noise and what is listened to change what is found, and all words have numbers."""
    for name in MODELS:
        facts = FACTS[name]
        fused = {str(case["tokens"]) for case in facts["fusion"]}
        assert not fused or len(fused - {str(facts["tokens"])}) >= 3
        assert sum(row["word"] is not None for case in facts["confidence"] for row in case["rows"]) > 60
        numbers = {tuple(row["token"]) for case in facts["confidence"] for row in case["rows"]}
        assert len(numbers) > 5 * len(facts["confidence"])
    assert len({str(tokens) for tokens in FACTS["fastconformer_ctc_bpe"]["tokens"]}) == 4
