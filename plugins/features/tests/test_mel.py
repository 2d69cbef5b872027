"""The mel filters against Slaney's formula, written out slowly, and against what it promises."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from sonant.nemo.archive import NemoArchive
from sonant_features.log_mel.mel import filterbank, hz_to_mel, mel_to_hz

CASES = Path(__file__).resolve().parents[3] / "tests" / "nemo-cases"
SIZES = [
    (16000, 512, 80, 0.0, 8000.0),
    (16000, 512, 128, 0.0, 8000.0),
    (22050, 1024, 80, 0.0, 8000.0),
    (8000, 256, 23, 20.0, 3700.0),
]


def mels(hz: float) -> float:
    return hz / (200 / 3) if hz < 1000 else 15 + 27 * math.log(hz / 1000) / math.log(6.4)


def hertz(mel: float) -> float:
    return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)


def slaney(sample_rate: int, n_fft: int, bands: int, low: float, high: float) -> np.ndarray:
    """One filter, one bin at a time."""
    filters = np.zeros((bands, n_fft // 2 + 1))
    step = (mels(high) - mels(low)) / (bands + 1)
    for band in range(bands):
        left, centre, right = (hertz(mels(low) + step * (band + n)) for n in range(3))
        for k in range(n_fft // 2 + 1):
            hz = k * sample_rate / n_fft
            if left <= hz <= centre:
                filters[band, k] = 2 / (right - left) * (hz - left) / (centre - left)
            elif centre < hz <= right:
                filters[band, k] = 2 / (right - left) * (right - hz) / (right - centre)
    return filters


@pytest.mark.parametrize("size", SIZES)
def test_filters_follow_slaneys_formula(size: tuple[int, int, int, float, float]) -> None:
    filters = filterbank(*size, equal_area=True)
    assert filters.dtype == np.float32
    np.testing.assert_allclose(filters, slaney(*size), atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize(("hz", "mel"), [(0, 0), (200 / 3, 1), (500, 7.5), (1000, 15), (6400, 42), (1000 * 6.4**2, 69)])
def test_the_scale_at_points_that_define_it(hz: float, mel: float) -> None:
    assert hz_to_mel(hz) == pytest.approx(mel)
    assert mel_to_hz(mel) == pytest.approx(hz)


def test_the_scale_turns_round() -> None:
    hz = np.linspace(0, 24000, 1001)
    np.testing.assert_allclose(mel_to_hz(hz_to_mel(hz)), hz, atol=1e-8)


def test_bands_have_equal_area() -> None:
    """Up to how finely the bins sample a triangle."""
    sample_rate, n_fft = 16000, 2**17
    filters = filterbank(sample_rate, n_fft, 80, 0.0, 8000.0, equal_area=True)
    np.testing.assert_allclose(filters.sum(1) * sample_rate / n_fft, 1.0, rtol=1e-4)


def test_bands_of_equal_height_share_every_bin() -> None:
    low, high, bands = 100.0, 7000.0, 40
    filters = filterbank(16000, 512, bands, low, high, equal_area=False)
    step = (mels(high) - mels(low)) / (bands + 1)
    bins = np.arange(257) * 16000 / 512
    between = (bins >= hertz(mels(low) + step)) & (bins <= hertz(mels(high) - step))
    np.testing.assert_allclose(filters.sum(0)[between], 1.0, atol=1e-6)
    assert not filters[:, (bins < low) | (bins > high)].any()
    assert filters.max() <= 1


@pytest.mark.parametrize(("name", "bands"), [("fastconformer_ctc_bpe", 80), ("fastconformer_tdt_bpe", 128)])
def test_filters_are_those_in_nemos_checkpoints(name: str, bands: int) -> None:
    with NemoArchive(CASES / f"{name}.nemo") as archive:
        theirs = archive.state()["preprocessor.featurizer.fb"][0].numpy()
    np.testing.assert_allclose(filterbank(16000, 512, bands, 0.0, 8000.0, equal_area=True), theirs, atol=1e-9, rtol=2e-6)
