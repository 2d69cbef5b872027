"""Files are read block by block, so that hours with all their channels never stand in memory."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from sonant import audio

RATE = 16000


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize(("channel", "options"), [(None, {}), (1, {}), (0, {"offset": 0.11, "duration": 0.3})], ids=str)
def test_blocks_do_not_change_a_sample(
    monkeypatch: pytest.MonkeyPatch, format: str, channel: int | None, options: dict[str, float]
) -> None:
    """What libsndfile gives for the whole at once, averaged or one channel of it."""
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (RATE, 3 if format in ("WAV", "FLAC") else 2)).astype(np.float32)
    stream = io.BytesIO()
    soundfile.write(stream, noise, RATE, format=format)
    content = stream.getvalue()
    monkeypatch.setattr(audio, "_BLOCK", 1000)
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        first = round(options.get("offset", 0.0) * RATE)
        file.seek(first)
        whole = file.read(round(options.get("duration", 10.0) * RATE), dtype="float32")
    expected = whole.mean(axis=1) if channel is None else whole[:, channel]
    np.testing.assert_allclose(audio.read(io.BytesIO(content), RATE, channel=channel, **options), expected, atol=1e-6)
