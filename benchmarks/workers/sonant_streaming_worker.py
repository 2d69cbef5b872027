"""Sonant's side of `streaming.py`."""

from __future__ import annotations

import time
from typing import Any

held: dict[str, Any] = {}


def versions(threads: int) -> dict[str, str]:
    """Import, and say what was imported."""
    import torch

    import sonant

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    return {"name": f"sonant {sonant.__version__}", "torch": torch.__version__}


def load(file: str, dtype: str, device: str) -> int:
    """Open a checkpoint."""
    import sonant

    held["model"] = sonant.load(file, device=device, dtype=dtype)
    return sum(p.numel() for p in held["model"].parameters())


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


ACTIONS = {"versions": versions, "load": load, "stream": stream}
