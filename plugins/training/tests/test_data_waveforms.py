"""What is done to waveforms, against what it is by definition."""

from __future__ import annotations

import numpy as np
import pytest

from sonant_training.data import waveforms
from sonant_training.data.recordings import change_speed

RATE = 16000


def noise(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(length, dtype=np.float32) * np.float32(0.1)


@pytest.mark.parametrize(("length", "taps"), [(1, 1), (7, 3), (3, 7), (1000, 999), (32768, 17), (70000, 5000), (40000, 50000)])
def test_convolution_by_blocks_is_convolution(length: int, taps: int) -> None:
    samples, response = noise(length), noise(taps, 1)
    size = length + taps - 1  # one transform of all, in float64
    expected = np.fft.irfft(
        np.fft.rfft(samples.astype(np.float64), 2 * size) * np.fft.rfft(response.astype(np.float64), 2 * size)
    )[:size]
    found = waveforms.convolve(samples, response)
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-5 * max(1.0, np.abs(expected).max())


def test_the_size_of_a_transform_is_the_next_that_is_fast() -> None:
    def smooth(number: int) -> bool:
        for prime in (2, 3, 5):
            while number % prime == 0:
                number //= prime
        return number == 1

    for least in [*range(1, 400), 16001, 40769, 65537]:
        expected = next(size for size in range(least, 2 * least + 1) if smooth(size))
        assert waveforms.fast_size(least) == expected


def test_a_room_keeps_time_and_loudness() -> None:
    click = np.zeros(4000, dtype=np.float32)
    click[1000] = 0.5
    response = np.zeros(800, dtype=np.float32)
    response[[100, 300]] = [-0.8, 0.4]  # the direct sound, and an echo 200 samples later
    wet = waveforms.in_room(click, response)
    assert np.flatnonzero(np.abs(wet) > 1e-4).tolist() == [1000, 1200]
    assert wet[1000] / wet[1200] == pytest.approx(-2, rel=1e-3)
    samples = noise(20000)
    assert waveforms.power(waveforms.in_room(samples, response)) == pytest.approx(waveforms.power(samples), rel=1e-4)
    assert len(waveforms.in_room(samples, response)) == 20000
    assert not waveforms.in_room(np.zeros(50, dtype=np.float32), response).any()


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 20.0])
def test_noise_is_as_much_quieter_as_asked(snr_db: float) -> None:
    speech, other = 3 * noise(RATE), noise(RATE, 1)
    added = waveforms.mix(speech, other, snr_db) - speech
    assert 10 * np.log10(np.mean(speech**2) / np.mean(added**2)) == pytest.approx(snr_db, abs=0.01)
    assert np.corrcoef(added, other)[0, 1] > 0.999


def test_silence_gets_no_noise_and_adds_none() -> None:
    silence, speech = np.zeros(100, dtype=np.float32), noise(100)
    assert (waveforms.mix(silence, speech, 10) == silence).all()
    assert (waveforms.mix(speech, silence, 10) == speech).all()


def test_shift_moves_and_fills_with_silence() -> None:
    samples = np.arange(1, 6, dtype=np.float32)
    assert waveforms.shift(samples, 2).tolist() == [0, 0, 1, 2, 3]
    assert waveforms.shift(samples, -2).tolist() == [3, 4, 5, 0, 0]
    assert waveforms.shift(samples, 0).tolist() == samples.tolist()
    assert waveforms.shift(samples, 9).tolist() == [0] * 5 == waveforms.shift(samples, -9).tolist()


def test_gain_is_in_decibels() -> None:
    samples = noise(100)
    assert waveforms.gain(samples, 20) == pytest.approx(10 * samples)
    assert waveforms.gain(samples, -6.0206) == pytest.approx(samples / 2, rel=1e-5)


@pytest.mark.parametrize("factor", [0.9, 1.1, 2.0])
def test_speed_changes_tempo_and_pitch(factor: float) -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(2 * RATE) / RATE).astype(np.float32)
    changed = change_speed(tone, RATE, factor)
    assert len(changed) == pytest.approx(len(tone) / factor, abs=1)
    peak = np.argmax(np.abs(np.fft.rfft(changed * np.hanning(len(changed))))) * RATE / len(changed)
    assert peak == pytest.approx(1000 * factor, abs=1)
    middle = changed[2000:-2000]
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(np.sqrt(0.5), rel=1e-3)
