"""Batches to train on that both sides make alike: every label has a chord of its own, so that there is something to learn."""

from __future__ import annotations

import numpy as np

RATE = 16000
_LABEL_SECONDS = 0.16


def lesson(step: int, *, size: int, seconds: float, labels: int) -> dict[str, np.ndarray]:
    """`wav` `(B, N)` float32 with noise, `lens`, `labels` `(B, U)`, `label_lens`: `size` of them, of 0.8 to 1 times `seconds`."""
    generator = np.random.default_rng(step)
    samples = (RATE * seconds * generator.uniform(0.8, 1.0, size)).astype(np.int64)
    per_label = int(RATE * _LABEL_SECONDS)
    counts = samples // per_label
    spoken = [generator.integers(0, labels, count) for count in counts]
    wav, padded = np.zeros((size, samples.max()), np.float32), np.zeros((size, counts.max()), np.int64)
    time = np.arange(per_label) / RATE
    for row, count, target, sound in zip(spoken, counts, padded, wav, strict=True):
        target[:count] = row
        hertz = np.stack([200 + 60 * (row % 32), 2500 + 200 * (row // 32)])[..., None]  # (2, U, 1)
        sound[: count * per_label] = 0.1 * np.sin(2 * np.pi * hertz * time).sum(0).ravel()
    wav += 0.01 * generator.standard_normal(wav.shape, np.float32)
    wav *= np.arange(wav.shape[1]) < samples[:, None]
    return {"wav": wav, "lens": samples, "labels": padded, "label_lens": counts}
