"""Sonant's side of a side-by-side benchmark; see `side_by_side.py`."""

from __future__ import annotations

import time
from typing import Any

from _serve import serve

held: dict[str, Any] = {}


def versions(threads: int) -> dict[str, str]:
    """Import, and say what was imported."""
    import torch

    import sonant

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    return {"name": f"sonant {sonant.__version__}", "torch": torch.__version__}


def load(file: str, dtype: str) -> int:
    """Open a checkpoint."""
    import sonant

    held["model"] = sonant.load(file, device="cpu", dtype=dtype)
    return sum(p.numel() for p in held["model"].parameters())


def encode(seconds: int, batch: int = 1) -> list[float]:
    """Run the encoder on random features that both sides draw alike."""
    import torch

    model = held["model"]
    torch.manual_seed(seconds)
    feats = torch.randn(batch, seconds * 100, model.preprocessor.d_out)
    enc, _ = model.encoder(feats, torch.full((batch,), seconds * 100))
    return enc.float()[0, :3, :3].flatten().tolist()


def transcribe(files: list[str], batch_size: int) -> list[str]:
    """Transcribe recordings."""
    return [t.text for t in held["model"].transcribe(files, batch_size=batch_size)]


def stream(file: str, context: list[int]) -> dict[str, Any]:
    """Feed a recording to a session, a step's audio at a time; the seconds of each push, features and words included."""
    from sonant import audio

    pool = held["model"].streams(att_context_size=context)
    session = pool.open()
    samples = audio.read(file, pool.sample_rate)
    size = round((context[1] + 1) * held["model"].frame_seconds * pool.sample_rate)
    seconds, text = [], ""
    for at in range(0, len(samples), size):
        start = time.perf_counter()
        events = session.push(samples[at : at + size])
        seconds.append(time.perf_counter() - start)
        text += "".join(event.text for event in events)
    return {"seconds": seconds, "text": text + "".join(event.text for event in session.finish())}


serve({"versions": versions, "load": load, "encode": encode, "transcribe": transcribe, "stream": stream})
