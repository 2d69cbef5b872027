"""One model, many threads: whole recordings and streams at once, each searched in its own way, as if each were alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import sonant

CASES = Path(__file__).resolve().parents[3] / "tests" / "nemo-cases"
A, B = (soundfile.read(CASES / name, dtype="float32")[0] for name in ("a.wav", "b.wav"))
WHOLE: list[dict[str, Any]] = [
    {},
    {"timestamps": "char", "confidence": True},
    {"search": {"beam_size": 4, "n_best": 3}},
    {"boost": ["left", "right"], "timestamps": "word"},
    {"boost": {"side": 2.0}, "search": {"beam_size": 3}},
    {"chunking": "chunks:1"},
]


def whole(model: Any, options: dict[str, Any]) -> list[Any]:
    found = model.transcribe([A, B, np.concatenate([B, A]), A[:160]], **options)
    return [
        (one.text, one.tokens, [(w.text, w.start, w.end) for w in one.words], [other.text for other in one.alternatives])
        for one in found
    ]


def streamed(model: Any, options: dict[str, Any]) -> list[Any]:
    session, events = model.stream(**options), []
    for start in range(0, len(A), 2000):
        events += session.push(A[start : start + 2000])
    return [(event.text, [word.text for word in event.words]) for event in [*events, *session.finish()]]


@pytest.mark.parametrize("name", ["eou_rnnt_bpe", "fastconformer_streaming_ctc_bpe", "canary2_aed"])
def test_calls_with_different_options_do_not_disturb_each_other(name: str) -> None:
    model = sonant.load(CASES / f"{name}.nemo", device="cpu", dtype="float32")
    is_aed = model.decoder.family == "aed"
    jobs: list[tuple[Callable[..., list[Any]], dict[str, Any]]] = [
        (whole, o) for o in WHOLE if not (is_aed and "confidence" in o)
    ]
    if getattr(model.encoder, "streams", False) and model.preprocessor.streams:
        jobs += [(streamed, {}), (streamed, {"boost": ["side"], "confidence": True})]
    fresh = sonant.load(CASES / f"{name}.nemo", device="cpu", dtype="float32")
    alone = [work(fresh, options) for work, options in jobs]
    found: dict[int, list[Any]] = {}
    ready = threading.Barrier(len(jobs))

    def run(number: int) -> None:
        work, options = jobs[number]
        ready.wait(timeout=60)
        found[number] = work(model, options)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, expected in enumerate(alone):
        assert found[number] == expected, jobs[number]
