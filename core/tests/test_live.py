"""Audio while it comes: the same samples as the whole, in time, and clear words for what cannot be heard."""

from __future__ import annotations

import io
import os
import struct
import sys
import time
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from sonant.audio import Samples
from sonant.errors import AudioError
from sonant.live import microphone, paced, piped
from sonant.live.pieces import Handover
from sonant.live.sources import resampled

RATE = 16000


def noise(count: int, channels: int = 1, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).uniform(-0.9, 0.9, (count, channels))


def written(samples: np.ndarray[Any, Any], rate: int, subtype: str, form: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()


def heard(data: bytes, rate: int = RATE, **options: Any) -> Samples:
    return np.concatenate([piece.samples for piece in piped(io.BytesIO(data), rate, **options)])


class Trickle:
    """A pipe that gives a few bytes at a time, and never as many as were asked for."""

    def __init__(self, data: bytes, size: int) -> None:
        self._parts = iter([data[i : i + size] for i in range(0, len(data), size)])
        self._rest = b""

    def read1(self, size: int) -> bytes:
        self._rest = self._rest or next(self._parts, b"")
        part, self._rest = self._rest[:size], self._rest[size:]
        return part


@pytest.mark.parametrize("form", ["WAV", "WAVEX"])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_a_wav_stream_holds_what_soundfile_reads_of_the_file(subtype: str, form: str) -> None:
    data = written(noise(5000, 2), RATE, subtype, form)
    whole, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    assert np.allclose(heard(data), whole.mean(axis=1), atol=1e-7)
    assert np.array_equal(heard(data, channel=1), whole[:, 1])


@pytest.mark.parametrize("size", [1, 7, 1001])
def test_pieces_may_end_within_a_sample(size: int) -> None:
    data = written(noise(700, 3), RATE, "PCM_24")
    whole, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    pieces = [piece.samples for piece in piped(Trickle(data, size), RATE)]  # type: ignore[arg-type]
    assert np.allclose(np.concatenate(pieces), whole.mean(axis=1), atol=1e-7)


def test_a_header_that_was_written_to_a_pipe_does_not_know_the_length() -> None:
    data = written(noise(800), RATE, "PCM_16")
    at = data.index(b"data") + 4
    unknown = data[:4] + b"\xff" * 4 + data[8:at] + b"\xff" * 4 + data[at + 4 :]
    assert np.array_equal(heard(unknown), heard(data))


def test_what_stands_before_the_data_is_passed_over() -> None:
    data = written(noise(800), RATE, "PCM_16")
    at = data.index(b"fmt ")
    listed = data[:at] + b"LIST" + struct.pack("<I", 5) + b"hello\0" + data[at:]
    assert np.array_equal(heard(listed), heard(data))


def test_bare_samples_are_16_bit_at_the_models_rate() -> None:
    values = (noise(900)[:, 0] * 32767).astype("<i2")
    assert np.array_equal(heard(values.tobytes()), values.astype(np.float32) / 32768)


def test_a_stream_may_be_empty() -> None:
    assert list(piped(io.BytesIO(b""), RATE)) == []


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"fLaC" + bytes(100), "flac; only wav and bare samples"),
        (b"OggS" + bytes(100), "ogg"),
        (b"ID3\x04" + bytes(100), "mp3"),
        (b"RIFF\0\0\0\0AVI " + bytes(100), "RIFF and not WAVE"),
        (b"RIFF\0\0\0\0WAVEfmt \x10", "ends within its wav header"),
        (b"RIFF\0\0\0\0WAVEdata\x10\0\0\0", "no format before its data"),
        (b"RIFF\0\0\0\0WAVEfmt \xff\xff\xff\x7f", "2147483647 bytes"),
        (b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + struct.pack("<HHIIHH", 85, 1, RATE, 0, 0, 16), "format 85"),
        (b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + struct.pack("<HHIIHH", 1, 0, RATE, 0, 0, 16), "0 channels"),
        (b"RIFF\0\0\0\0WAVEfmt \x04\0\0\0\0\0\0\0", "cut short"),
    ],
)
def test_what_is_no_such_stream_is_named(data: bytes, says: str) -> None:
    with pytest.raises(AudioError, match=says):
        heard(data)


def test_errors_within_the_stream_reach_who_listens() -> None:
    with pytest.raises(AudioError, match="not finite"):
        heard(written(np.array([0.0, np.nan, 0.0]), RATE, "FLOAT"))
    with pytest.raises(AudioError, match="no channel 2: the stream has 2"):
        heard(written(noise(10, 2), RATE, "PCM_16"), channel=2)


def test_resampling_piece_by_piece_leaves_no_seams() -> None:
    whole = noise(48000)[:, 0].astype(np.float32)
    pieces = [whole[at : at + 777] for at in range(0, len(whole), 777)]
    assert np.allclose(np.concatenate(list(resampled(pieces, 48000, RATE))), soxr.resample(whole, 48000, RATE), atol=1e-6)


def test_a_stream_at_another_rate_is_resampled() -> None:
    data = written(noise(48000), 48000, "FLOAT")
    whole, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    assert np.allclose(heard(data), soxr.resample(whole, 48000, RATE), atol=1e-6)


def test_a_paced_file_comes_when_it_would_have_been_heard() -> None:
    samples = noise(4800)[:, 0].astype(np.float32)
    begin = time.monotonic()
    pieces, at = [], 0
    for piece in paced(samples, RATE):
        at += len(piece.samples)
        assert piece.arrived - begin >= at / RATE - 1e-9
        assert time.monotonic() >= piece.arrived  # nothing is heard before its time
        pieces.append(piece.samples)
    assert np.array_equal(np.concatenate(pieces), samples)


def test_who_falls_behind_a_paced_file_finds_longer_pieces() -> None:
    pieces = paced(np.zeros(RATE, dtype=np.float32), RATE)
    first = next(pieces)
    time.sleep(0.2)
    assert len(next(pieces).samples) >= 0.15 * RATE > len(first.samples)


def test_pieces_that_wait_are_handed_over_at_once_and_none_is_lost() -> None:
    pieces = Handover(RATE)
    for value in range(100):
        pieces.put(np.full(400, value, dtype=np.float32))
    pieces.end()
    found = [piece.samples for piece in pieces]
    assert len(found) < 10
    assert max(map(len, found)) <= RATE + 400
    assert np.array_equal(np.concatenate(found), np.repeat(np.arange(100, dtype=np.float32), 400))


def test_a_writer_to_a_full_queue_ends_when_nobody_listens_any_more() -> None:
    def endless() -> Iterator[Samples]:
        while True:
            produced.append(1)
            yield np.zeros(400, dtype=np.float32)

    produced: list[int] = []
    pieces = Handover(RATE, room=4)
    pieces.fill(endless())
    listening = iter(pieces)
    next(listening)
    listening.close()  # type: ignore[attr-defined]
    time.sleep(0.3)
    count = len(produced)
    time.sleep(0.2)
    assert len(produced) == count


def test_a_pipe_gives_what_is_there_before_it_ends() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as stream:
        os.write(writing, bytes(3200))
        pieces = piped(stream, RATE)  # type: ignore[arg-type]
        found = 0
        while found < 1600:
            found += len(next(pieces).samples)
        os.close(writing)
        assert found == 1600
        assert list(pieces) == []


class StandInDevice:
    """A sound card for `sounddevice`: at 48 kHz only, and it plays what it was given."""

    class PortAudioError(Exception):
        pass

    def __init__(self, sound: Samples) -> None:
        self.sound, self.closed = sound, False

    def module(self) -> types.ModuleType:
        module = types.ModuleType("sounddevice")
        device = self

        class InputStream:
            def __init__(self, *, samplerate: int, blocksize: int, callback: Any, device: Any, **_: Any) -> None:
                assert samplerate == 48000
                if device == "broken":
                    raise StandInDevice.PortAudioError("device unavailable")
                self.callback, self.size = callback, blocksize

            def __enter__(self) -> None:
                buffer = np.zeros((self.size, 1), dtype=np.float32)  # used again for every block, as PortAudio's
                for at in range(0, len(device.sound), self.size):
                    buffer[:, 0] = device.sound[at : at + self.size]
                    self.callback(buffer, self.size, None, None)

            def __exit__(self, *_: Any) -> None:
                device.closed = True

        def check_input_settings(*, samplerate: int, **_: Any) -> None:
            if samplerate != 48000:
                raise StandInDevice.PortAudioError("Invalid sample rate")

        def query_devices(name: Any = None, kind: str | None = None) -> Any:
            found = {"name": "Stand-in", "max_input_channels": 1, "default_samplerate": 48000.0}
            if name == "absent":
                raise ValueError("No input device matching 'absent'")
            return found if kind else [found]

        module.PortAudioError = StandInDevice.PortAudioError  # type: ignore[attr-defined]
        module.InputStream = InputStream  # type: ignore[attr-defined]
        module.check_input_settings = check_input_settings  # type: ignore[attr-defined]
        module.query_devices = query_devices  # type: ignore[attr-defined]
        return module


def test_a_microphone_is_heard_at_the_models_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = noise(96000)[:, 0].astype(np.float32)
    device = StandInDevice(sound)
    monkeypatch.setitem(sys.modules, "sounddevice", device.module())
    pieces = microphone(RATE)
    found: list[Samples] = []
    while sum(map(len, found)) < 20000:
        found.append(next(pieces).samples)
    pieces.close()  # type: ignore[attr-defined]
    whole = soxr.resample(sound, 48000, RATE)
    together = np.concatenate(found)
    assert np.allclose(together, whole[: len(together)], atol=1e-6)
    assert device.closed


def test_a_microphone_that_cannot_be_used_is_an_error_that_names_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", StandInDevice(np.zeros(0, dtype=np.float32)).module())
    with pytest.raises(AudioError, match="'absent' cannot be used .*there are: 0: Stand-in"):
        microphone(RATE, device="absent")
    with pytest.raises(AudioError, match="'broken' cannot be used"):
        microphone(RATE, device="broken")


def test_without_sounddevice_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(AudioError, match=r"pip install 'sonant\[live\]'"):
        microphone(RATE)
