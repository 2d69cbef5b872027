"""Models in bfloat16 and float16 say what they say in float32, whatever they are made of and however they are searched."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import sonant
from sonant.results import Transcript
from sonant_asr.ctc.config import CtcConfig, CtcGreedyConfig
from sonant_asr.ctc.model import CtcHead
from sonant_asr.ctc.search import CtcGreedy
from sonant_asr.long.searching import search_in_blocks
from sonant_asr.transducer.joint import HatJoint

CASES = Path(__file__).resolve().parents[3] / "tests" / "nemo-cases"
A, B = CASES / "a.wav", CASES / "b.wav"
TRAINED = sorted(path.stem for path in CASES.glob("*.nemo") if path.stem != "canary_aed")  # which has random weights
STREAMING = ["eou_rnnt_bpe", "fastconformer_streaming_ctc_bpe", "fastconformer_streaming_rnnt_bpe", "prompt_rnnt_bpe"]
HEADS = ["canary2_aed", "fastconformer_ctc_bpe", "fastconformer_hybrid_tdt_ctc_bpe", "hat_rnnt_char", "prompt_hybrid_bpe"]


@cache
def loaded(name: str, dtype: str = "bfloat16") -> Any:
    return sonant.load(CASES / f"{name}.nemo", device="cpu", dtype=dtype)


def wanted(name: str) -> list[str]:
    """What NeMo transcribed in float32, without marks of the ends of utterances; or what we do, where it said nothing of that."""
    known = json.loads((CASES / f"{name}.json").read_text("utf-8"))
    texts = known["text"] if "text" in known else [one.text for one in loaded(name, "float32").transcribe([A, B])]
    return [text.replace("<EOU>", "").replace("<EOB>", "") for text in texts]


def check_finite(found: Sequence[Transcript]) -> None:
    for one in found:
        assert all(math.isfinite(score) for score in [one.score or 0.0, *(other.score for other in one.alternatives)])
        for span in one.words:
            assert 0 <= span.start <= span.end < 5
            assert span.confidence is None or -0.01 <= span.confidence <= 1.01


@pytest.mark.parametrize("name", TRAINED)
def test_bfloat16_says_the_same(name: str) -> None:
    """These models know the two recordings by heart: rounding does not reach the text."""
    model = loaded(name)
    kinds = {p.dtype for part in (model.encoder, *model.decoders.values()) for p in part.parameters()}
    assert kinds == {torch.bfloat16}
    found = model.transcribe([A, B], timestamps="word")
    check_finite(found)
    assert [one.text for one in found] == wanted(name)


@pytest.mark.parametrize("name", HEADS)
def test_float16_says_the_same(name: str) -> None:
    found = loaded(name, "float16").transcribe([A, B])
    check_finite(found)
    assert [one.text for one in found] == wanted(name)


@pytest.mark.parametrize("name", HEADS)
def test_every_search_works_in_bfloat16(name: str) -> None:
    """Beams, phrases, confidence and chunks, among recordings of nearly nothing and of silence."""
    model = loaded(name)
    odd = [A, B, soundfile.read(A, dtype="float32")[0][9000:9001], np.zeros(160, np.float32), np.zeros(8000, np.float32)]
    options: list[dict[str, Any]] = [
        {"search": {"beam_size": 3, "n_best": 2}},
        {"search": {"beam_size": 3}, "boost": ["left"]},
        {"boost": ["left"], "chunking": "chunks:1"},
    ]
    if model.decoder.family != "aed":
        options.append({"confidence": True, "timestamps": "word", "boost": ["left"]})
    if model.decoder.family in ("rnnt", "tdt"):
        options.append({"search": {"name": "transducer_maes", "beam_size": 3}, "boost": ["left"]})
    for asked in options:
        found = model.transcribe(odd, **asked)
        check_finite(found)
        for one, text in zip(found, wanted(name), strict=False):
            assert one.text == text or "chunking" in asked  # a chunk of a second is less than these models have learned


@pytest.mark.parametrize("name", STREAMING)
def test_streams_in_bfloat16(name: str) -> None:
    """Several at once, of different lengths, with and without confidence and phrases."""
    wavs = [soundfile.read(path, dtype="float32")[0] for path in (A, B)]
    for asked in ({}, {"confidence": True, "boost": ["side"]}):
        pool = loaded(name).streams(**asked)
        sessions = [pool.open() for _ in wavs]
        events: list[list[Any]] = [[] for _ in wavs]
        for start in range(0, max(map(len, wavs)), 4000):
            pushed = pool.push({session: wav[start : start + 4000] for session, wav in zip(sessions, wavs, strict=True)})
            for kept, session in zip(events, sessions, strict=True):
                kept += pushed[session]
        ended = pool.finish(sessions)
        texts = ["".join(e.text for e in [*kept, *ended[session]]) for kept, session in zip(events, sessions, strict=True)]
        assert [text.strip() for text in texts] == wanted(name)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("frames", [257, 1001, 2045, 3051])
def test_long_recordings_keep_their_last_frames(frames: int, dtype: torch.dtype) -> None:
    """However many frames the last block has: most numbers from 257 on are none of bfloat16's."""
    head = CtcHead(CtcConfig(), d_in=8, vocab_size=4).to(dtype)
    torch.nn.init.zeros_(head.out.bias)
    with torch.no_grad():
        head.out.weight.copy_(torch.eye(5, 8))
    enc = torch.zeros(1, frames, 8, dtype=dtype)
    enc[..., 4] = 5.0  # blanks, but for three labels
    for at, label in ((0, 1), (frames // 2, 2), (frames - 1, 3)):
        enc[0, at] = torch.eye(8, dtype=dtype)[label] * 9
    (found,) = search_in_blocks(CtcGreedy(CtcGreedyConfig()), head, enc=enc, lens=torch.tensor([frames]))
    assert (found.tokens, found.ends) == ((1, 2, 3), (0, frames // 2, frames - 1))


def test_hat_scores_are_log_probabilities_of_float32() -> None:
    """Their sum is 1 as closely as float32 has it, also where one label is nearly certain."""
    torch.manual_seed(0)
    joint = HatJoint(8, 8, 16, 30, activation="relu", dropout=0.0).to(torch.bfloat16).eval()
    with torch.no_grad():
        joint.out.bias[3].add_(8.0)
        joint.blank.bias.sub_(3.0)
        scores = joint(torch.randn(2, 5, 8, dtype=torch.bfloat16), torch.randn(2, 3, 8, dtype=torch.bfloat16))
    torch.testing.assert_close(scores.double().logsumexp(-1), torch.zeros(2, 5, 3, dtype=torch.double), atol=1e-5, rtol=0)
