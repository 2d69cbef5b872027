"""The mel scale and its triangular filters, after M. Slaney, Auditory Toolbox, Interval TR 1998-010."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_LINEAR_STEP = 200.0 / 3  # Hz a mel below the break
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_STEP
_LOG_STEP = np.log(6.4) / 27.0  # above it, 27 mels lead from 1000 Hz to 6400 Hz

Array = npt.NDArray[np.float64]


def hz_to_mel(hz: npt.ArrayLike) -> Array:
    """Linear up to 1 kHz, logarithmic above."""
    hz = np.asarray(hz, dtype=np.float64)
    return np.where(hz < _BREAK_HZ, hz / _LINEAR_STEP, _BREAK_MEL + np.log(np.maximum(hz, _BREAK_HZ) / _BREAK_HZ) / _LOG_STEP)


def mel_to_hz(mel: npt.ArrayLike) -> Array:
    """The inverse of `hz_to_mel`."""
    mel = np.asarray(mel, dtype=np.float64)
    return np.where(mel < _BREAK_MEL, mel * _LINEAR_STEP, _BREAK_HZ * np.exp(_LOG_STEP * (mel - _BREAK_MEL)))


def filterbank(sample_rate: int, n_fft: int, bands: int, low: float, high: float, equal_area: bool) -> npt.NDArray[np.float32]:
    """Triangular filters `(bands, n_fft // 2 + 1)` with edges equally spaced in mel between `low` and `high` Hz."""
    bins = np.linspace(0, sample_rate / 2, n_fft // 2 + 1)
    edges = mel_to_hz(np.linspace(hz_to_mel(low), hz_to_mel(high), bands + 2))
    rising = (bins[None, :] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins[None, :]) / (edges[2:] - edges[1:-1])[:, None]
    filters = np.maximum(0, np.minimum(rising, falling))
    if equal_area:
        filters *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return filters.astype(np.float32)
