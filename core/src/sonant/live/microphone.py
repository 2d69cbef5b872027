"""Audio from a microphone."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import numpy as np

from sonant.audio import Samples
from sonant.errors import AudioError
from sonant.live.pieces import Handover, Piece
from sonant.live.sources import resampled

_BLOCK = 0.02  # seconds of a piece


def microphone(sample_rate: int, *, device: str | int | None = None) -> Iterator[Piece]:
    """What a microphone hears from now on, until the iterator is closed.

    Args:
        sample_rate: in Hz, of the samples that come out.
        device: its name, a part of it, or its number; None takes the system's.

    Raises:
        AudioError: sounddevice or its library is not installed, or there is no such microphone.
    """
    sounddevice = _sounddevice()
    rate = _usable_rate(sounddevice, device, sample_rate)
    heard: queue.SimpleQueue[Samples | None] = queue.SimpleQueue()
    pieces = Handover(sample_rate)

    def hear(samples: Samples, *_: Any) -> None:
        heard.put(np.array(samples[:, 0]))  # its memory is used again; and this thread must not wait for anything

    try:
        stream = sounddevice.InputStream(
            samplerate=rate, channels=1, dtype="float32", device=device, blocksize=round(_BLOCK * rate), callback=hear
        )
    except (sounddevice.PortAudioError, ValueError) as error:
        raise _unusable(sounddevice, device, error) from error
    pieces.fill(resampled(_until_none(heard), rate, sample_rate))
    return _listen(stream, pieces, heard)


def _listen(stream: Any, pieces: Handover, heard: queue.SimpleQueue[Samples | None]) -> Iterator[Piece]:
    try:
        with stream:
            yield from pieces
    finally:
        heard.put(None)  # the thread that waits there ends


def _until_none(heard: queue.SimpleQueue[Samples | None]) -> Iterator[Samples]:
    while (samples := heard.get()) is not None:
        yield samples


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError as error:
        raise AudioError("a microphone needs the package sounddevice: pip install 'sonant[live]'") from error
    except OSError as error:  # the package is there, and the library that it calls is not
        raise AudioError(f"a microphone needs PortAudio ({error}): on Debian, apt install libportaudio2") from error
    return sounddevice


def _usable_rate(sounddevice: Any, device: str | int | None, wanted: int) -> int:
    """`wanted`, or the device's own rate where it has no other."""
    try:
        sounddevice.check_input_settings(device=device, channels=1, dtype="float32", samplerate=wanted)
        return wanted
    except (sounddevice.PortAudioError, ValueError):
        pass
    try:
        return int(sounddevice.query_devices(device, "input")["default_samplerate"])
    except (sounddevice.PortAudioError, ValueError) as error:
        raise _unusable(sounddevice, device, error) from error


def _unusable(sounddevice: Any, device: str | int | None, error: Exception) -> AudioError:
    names = [f"{n}: {d['name']}" for n, d in enumerate(sounddevice.query_devices()) if d["max_input_channels"] > 0]
    which = "no microphone can be used" if device is None else f"the microphone {device!r} cannot be used"
    return AudioError(f"{which} ({error}); there are: {'; '.join(names) or 'none'}")
