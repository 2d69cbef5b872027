"""What a recording is, heard once: how long, how loud, how often cut off at its peaks, and a fingerprint of its samples."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from attrs import frozen

from sonant import audio
from sonant.audio import Samples

FRAME: Final = 0.025
"""Seconds over which loudness is taken."""

_QUIETEST: Final = -120.0  # dB, also of digital silence
_FULL_SCALE: Final = 0.999
_FLAT: Final = 1e-4  # how far below the peak, in parts of it, a sample still counts as being there
_NEAR: Final = 0.9  # where the sound just before its peak begins


@frozen(kw_only=True)
class Sound:
    """A recording, or a piece of one.

    `level` is that of the loudest 25 ms, in dB of full scale; `clipped` is the part of the samples that are cut off; `digest`
    is the same for the same samples at the same rate.
    """

    seconds: float
    sample_rate: int
    channels: int
    level: float
    clipped: float
    digest: bytes


def measure(path: Path, offset: float = 0.0, duration: float | None = None) -> Sound:
    """Read a file, from `offset` for `duration` seconds or to its end, at its own rate. Channels are averaged.

    Raises:
        AudioError: it cannot be read whole, or has no samples there.
    """
    try:
        info = soundfile.info(path)
        rate, channels = int(info.samplerate), int(info.channels)
    except (soundfile.LibsndfileError, OSError, ValueError):
        rate, channels = 16_000, 1  # `audio.read` says what is wrong, or reads it all the same
    samples = audio.read(path, rate, offset=offset, duration=duration)
    return Sound(
        seconds=len(samples) / rate,
        sample_rate=rate,
        channels=channels,
        level=loudest(samples, rate),
        clipped=clipped(samples),
        digest=hashlib.blake2b(samples.tobytes(), digest_size=16, salt=rate.to_bytes(8, "little")).digest(),
    )


def loudest(samples: Samples, rate: int) -> float:
    """The level of the loudest frame of 25 ms, in dB of full scale: 0 is a square wave as loud as can be, a sine is at -3."""
    size = max(1, min(round(FRAME * rate), len(samples)))
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    power = float(np.square(frames, dtype=np.float64).mean(axis=1).max())
    return max(_QUIETEST, 10 * float(np.log10(power))) if power > 0 else _QUIETEST


def clipped(samples: Samples) -> float:
    """The part of the samples, from 0 to 1, that are cut off: at full scale, or at the peak.

    The second finds what was cut off first and made quieter then; above and below are counted by themselves, as their limits may
    differ. Sounds that were not cut off, coarsely quantized ones too, have fewer samples at their peak than just before it.
    """
    return (_cut(samples) + _cut(-samples)) / len(samples)


def _cut(samples: Samples) -> int:
    """How many are cut off above."""
    peak = float(samples.max())
    if peak <= 0:
        return 0
    edge = min(_FULL_SCALE, peak * (1 - _FLAT))
    cut = int(np.count_nonzero(samples >= edge))
    before = int(np.count_nonzero(samples >= _NEAR * edge)) - cut
    return cut if cut > before else 0
