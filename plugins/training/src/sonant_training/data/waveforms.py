"""What can be done to a waveform `(N,)`: rooms, noise, shift, volume. Plain functions, without chance."""

from __future__ import annotations

import numpy as np

from sonant.audio import Samples

_BLOCK = 2**15  # samples that are convolved at once


def power(samples: Samples) -> float:
    """The mean of the squares."""
    return float(np.dot(samples, samples)) / max(1, len(samples))


def gain(samples: Samples, db: float) -> Samples:
    """Louder by `db` decibels."""
    return samples * np.float32(10 ** (db / 20))


def shift(samples: Samples, count: int) -> Samples:
    """Later by `count` samples (earlier where negative), as long as before, with silence at the end that comes in."""
    count = max(-len(samples), min(len(samples), count))
    silence = np.zeros(abs(count), dtype=np.float32)
    kept = samples[: len(samples) - count] if count >= 0 else samples[-count:]
    return np.concatenate([silence, kept] if count >= 0 else [kept, silence])


def mix(samples: Samples, noise: Samples, snr_db: float) -> Samples:
    """With noise that is quieter by `snr_db` decibels, measured over all samples. Either being silent, nothing is added."""
    speech, other = power(samples), power(noise)
    if speech == 0 or other == 0:
        return samples
    return samples + noise * np.float32(np.sqrt(speech / other) * 10 ** (-snr_db / 20))


def extend(samples: Samples, length: int) -> Samples:
    """Repeated until it is so long."""
    return np.resize(samples, length)


def in_room(samples: Samples, response: Samples) -> Samples:
    """As it sounds in the room with that impulse response: as long, as loud, and not later.

    The direct sound is the largest sample of the response; what is before it is left out.
    """
    response = response[int(np.argmax(np.abs(response))) :]
    wet = convolve(samples, response)[: len(samples)]
    before, after = power(samples), power(wet)
    return wet * np.float32(np.sqrt(before / after)) if after > 0 else samples


def convolve(samples: Samples, response: Samples) -> Samples:
    """The full convolution, `(N + M - 1,)`, by blocks: overlap and add."""
    total = len(samples) + len(response) - 1
    step = max(_BLOCK, len(response))
    size = fast_size(min(step, len(samples)) + len(response) - 1)
    spectrum = np.fft.rfft(response, size)
    out = np.zeros(total + size, dtype=np.float32)
    for start in range(0, len(samples), step):
        block = samples[start : start + step]
        out[start : start + size] += np.fft.irfft(np.fft.rfft(block, size) * spectrum, size)
    return out[:total]


def fast_size(least: int) -> int:
    """The least size from `least` on that has no prime factor above 5, which Fourier transforms are fast for."""
    best = 1 << (least - 1).bit_length()
    five = 1
    while five < best:
        three = five
        while three < best:
            two = three << max(0, (-(-least // three) - 1).bit_length())
            best = min(best, two)
            three *= 3
        five *= 5
    return best
