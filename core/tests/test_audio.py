"""Recordings arrive as mono float32 at the wanted rate, whatever they come in; what is damaged is refused by its fault's name."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch

from sonant import audio
from sonant.errors import AudioError

Array = npt.NDArray[Any]
RATE = 16000


def sine(frequency: float, rate: int, seconds: float = 1.0, amplitude: float = 0.5) -> Array:
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def written(samples: Array, rate: int, format: str = "WAV", **options: Any) -> bytes:
    """The bytes of a sound file."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format=format, **options)
    return stream.getvalue()


def heard(content: bytes, rate: int = RATE, **options: Any) -> Array:
    return audio.read(io.BytesIO(content), rate, **options)


def loudest(samples: Array, rate: int) -> tuple[float, float]:
    """Frequency and amplitude of the strongest tone, by a windowed Fourier transform of the middle."""
    middle = samples[len(samples) // 4 : -len(samples) // 4].astype(np.float64)
    window = np.hanning(len(middle))
    spectrum = np.abs(np.fft.rfft(middle * window, 8 * len(middle)))
    peak = int(spectrum.argmax())
    return peak * rate / (8 * len(middle)), 2 * spectrum[peak] / window.sum()


# Files -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "subtype", "rate", "tolerance"),
    [
        ("WAV", "PCM_16", 8000, 1e-4),
        ("WAV", "PCM_16", 16000, 1e-4),
        ("WAV", "PCM_24", 44100, 1e-4),
        ("WAV", "FLOAT", 48000, 1e-4),
        ("WAV", "DOUBLE", 11025, 1e-4),
        ("WAV", "PCM_U8", 16000, 1e-2),
        ("WAV", "ULAW", 8000, 2e-2),
        ("FLAC", "PCM_16", 22050, 1e-4),
        ("FLAC", "PCM_24", 96000, 1e-4),
        ("AIFF", "PCM_16", 32000, 1e-4),
    ],
)
def test_a_resampled_sine_is_the_sine_sampled_at_the_new_rate(format: str, subtype: str, rate: int, tolerance: float) -> None:
    samples = heard(written(sine(440, rate), rate, format, subtype=subtype))
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(RATE, abs=1)
    inner = slice(800, RATE - 800)  # the filter sees silence beyond the ends
    np.testing.assert_allclose(samples[inner], sine(440, RATE)[inner], atol=tolerance)


@pytest.mark.parametrize("rate", [16000, 24000, 44100, 48000])
@pytest.mark.parametrize(("format", "channels"), [("OGG", 1), ("OGG", 2), ("MP3", 1), ("MP3", 2)])
def test_lossy_files_keep_frequency_and_loudness(format: str, channels: int, rate: int) -> None:
    content = written(np.tile(sine(1000, rate)[:, None], channels), rate, format)
    samples = heard(content)
    frequency, amplitude = loudest(samples, RATE)
    assert frequency == pytest.approx(1000, abs=2)
    assert amplitude == pytest.approx(0.5, rel=0.03)
    assert len(samples) / RATE == pytest.approx(1.0, abs=0.01)
    assert audio.seconds(io.BytesIO(content), RATE) == pytest.approx(1.0, abs=0.01)


def test_what_the_new_rate_cannot_hold_is_filtered_out_and_does_not_fold_back() -> None:
    samples = heard(written(sine(1000, 48000) + sine(10000, 48000), 48000, subtype="FLOAT"))
    np.testing.assert_allclose(samples[800:-800], sine(1000, RATE)[800:-800], atol=1e-3)


def test_a_path_a_string_and_a_file_object_are_heard_alike(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(written(sine(300, 44100), 44100, "FLAC"))
    expected = audio.read(path, RATE)
    np.testing.assert_array_equal(audio.read(str(path), RATE), expected)
    with path.open("rb") as stream:
        np.testing.assert_array_equal(audio.read(stream, RATE), expected)


def test_a_file_object_is_read_from_its_start_as_often_as_one_likes() -> None:
    stream = io.BytesIO(written(sine(300, RATE), RATE))
    stream.seek(0, io.SEEK_END)  # where writing left it
    first = audio.read(stream, RATE)
    assert audio.seconds(stream, RATE) == 1.0
    np.testing.assert_array_equal(audio.read(stream, RATE), first)
    np.testing.assert_allclose(first, sine(300, RATE), atol=1e-4)


class Pipe(io.RawIOBase):
    """A stream that cannot go back."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._content.readinto(buffer)


def test_a_pipe_is_read_to_its_end() -> None:
    samples = audio.read(io.BufferedReader(Pipe(written(sine(300, RATE), RATE))), RATE)
    np.testing.assert_allclose(samples, sine(300, RATE), atol=1e-4)


# Channels ----------------------------------------------------------------------------------------------------------------


def test_channels_are_averaged() -> None:
    stereo = np.stack([sine(440, RATE, amplitude=0.6), sine(1200, RATE, amplitude=0.2)], axis=1)
    np.testing.assert_allclose(heard(written(stereo, RATE)), stereo.mean(axis=1), atol=1e-4)


@pytest.mark.parametrize("channel", range(8))
def test_one_of_eight_channels_can_be_named(channel: int) -> None:
    frequencies = 300 + 100 * np.arange(8)
    samples = np.stack([sine(f, 48000) for f in frequencies], axis=1)
    heard_one = heard(written(samples, 48000), channel=channel)
    np.testing.assert_allclose(heard_one[800:-800], sine(frequencies[channel], RATE)[800:-800], atol=1e-3)


@pytest.mark.parametrize("channel", [-1, 2, 100])
def test_a_channel_that_is_not_there_is_refused(channel: int) -> None:
    with pytest.raises(AudioError, match=rf"no channel {channel}: the recording has 2, numbered from 0"):
        heard(written(np.zeros((100, 2)), RATE), channel=channel)


# Arrays ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["N", "NC", "CN"])
@pytest.mark.parametrize("container", [np.asarray, torch.from_numpy])
def test_arrays_in_every_orientation(shape: str, container: Any) -> None:
    left, right = sine(440, RATE).astype(np.float32), sine(900, RATE).astype(np.float32)
    array = {"N": left, "NC": np.stack([left, right], axis=1), "CN": np.stack([left, right])}[shape]
    samples = audio.read(container(array), RATE)
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples, left if shape == "N" else (left + right) / 2)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.uint8, np.uint16])
def test_integers_are_scaled_by_their_range_exactly(dtype: Any) -> None:
    info = np.iinfo(dtype)
    values = np.array([info.min, info.min + 1, 0, 1, info.max // 2, info.max - 1, info.max], dtype=dtype)
    middle = (info.max + info.min + 1) // 2
    expected = [(int(v) - middle) / 2 ** (info.bits - 1) for v in values]
    np.testing.assert_array_equal(audio.read(values, RATE), np.array(expected, dtype=np.float32))


def test_int16_arrays_equal_the_file_they_came_from() -> None:
    values = np.random.default_rng(0).integers(-(2**15), 2**15, 4000).astype(np.int16)
    np.testing.assert_array_equal(audio.read(values, RATE), heard(written(values, RATE, subtype="PCM_16")))


@pytest.mark.parametrize("values", [[1, 2, 3], np.arange(5), torch.arange(5)])
def test_integers_of_no_usual_range_are_refused(values: Any) -> None:
    with pytest.raises(AudioError, match="int64 samples have no range .* float32, int16 or int32"):
        audio.read(values, RATE)


def test_lists_and_half_precision_are_arrays_too() -> None:
    np.testing.assert_array_equal(audio.read([0.0, 0.5, -0.25], RATE), np.array([0, 0.5, -0.25], np.float32))
    np.testing.assert_array_equal(audio.read(torch.tensor([0, 0.5], dtype=torch.bfloat16), RATE), np.array([0, 0.5], np.float32))
    np.testing.assert_array_equal(audio.read(np.array([0.5, 1], np.float16), RATE), np.array([0.5, 1], np.float32))


@pytest.mark.parametrize("rate", [8000, 44100, np.int64(48000), 22050.0])
def test_a_pair_of_an_array_and_its_rate_is_resampled(rate: Any) -> None:
    samples = audio.read((sine(440, int(rate)), rate), RATE)
    np.testing.assert_allclose(samples[800:-800], sine(440, RATE)[800 : len(samples) - 800], atol=1e-4)
    assert audio.seconds((sine(440, int(rate)), rate), RATE) == pytest.approx(1.0)


def test_reading_leaves_the_array_as_it_was() -> None:
    array = np.array([3, -4], dtype=np.int16)
    audio.read(array, 8000)[0] = 7
    floats = np.array([0.25, 0.5], dtype=np.float32)
    audio.read(floats, 8000)
    assert array.tolist() == [3, -4] and floats.tolist() == [0.25, 0.5]


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        (np.zeros((100, 100)), r"shape \(100, 100\) is not a recording: expected \(N,\), \(N, C\) or \(C, N\)"),
        (np.zeros((2, 3, 4)), "not a recording"),
        (np.float32(1), "not a recording"),
        (None, "expected a path, a file object or an array of numbers, not NoneType"),
        ({"a": 1}, "not dict"),
        (np.array(["a"]), "array of numbers"),
        (np.array([1j]), "array of numbers"),
        ([[0.1], [0.2, 0.3]], "list is not audio"),
        (("a.wav", "b.wav"), "several recordings go in a list"),
        ((np.zeros(3), np.zeros(3)), "several recordings go in a list"),
        ((np.zeros(3), 8000, 1), "several recordings go in a list"),
        ((np.zeros(3), 0), "several recordings go in a list"),
        ((np.zeros(3), float("nan")), "several recordings go in a list"),
    ],
)
def test_what_is_no_recording_is_refused(source: Any, fault: str) -> None:
    with pytest.raises(AudioError, match=fault):
        audio.read(source, RATE)


# Pieces ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["WAV", "FLAC", "array", "pair"])
@pytest.mark.parametrize(("offset", "duration"), [(0.0, 0.5), (0.25, None), (0.25, 0.5), (0.9, 5.0), (0.123, 0.001)])
def test_offset_and_duration_cut_by_samples(format: str, offset: float, duration: float | None) -> None:
    whole = np.random.default_rng(1).uniform(-0.5, 0.5, RATE).astype(np.float32)
    source: Any = {"array": whole, "pair": (whole, RATE)}.get(format) if format in ("array", "pair") else None
    if source is None:
        source = io.BytesIO(written(whole, RATE, format, subtype="PCM_24"))
    piece = audio.read(source, RATE, offset=offset, duration=duration)
    first = round(offset * RATE)
    expected = whole[first : None if duration is None else first + round(duration * RATE)]
    np.testing.assert_allclose(piece, expected, atol=1e-6)
    assert len(piece) == len(expected)


def test_a_piece_of_a_file_at_another_rate() -> None:
    samples = heard(written(sine(440, 44100, 2.0), 44100), offset=0.5, duration=1.0)
    assert len(samples) == RATE
    np.testing.assert_allclose(samples[800:-800], sine(440, RATE, 2.0)[8000:][:RATE][800:-800], atol=1e-3)


@pytest.mark.parametrize("source", [np.zeros(RATE), io.BytesIO(written(np.zeros(RATE), RATE))])
def test_a_piece_beyond_the_end_has_no_samples(source: Any) -> None:
    with pytest.raises(AudioError, match=r"no samples from 5\.0 s on"):
        audio.read(source, RATE, offset=5.0)


@pytest.mark.parametrize("piece", [{"offset": -1.0}, {"offset": float("nan")}, {"duration": -0.5}, {"duration": float("inf")}])
@pytest.mark.parametrize("source", [np.zeros(RATE), io.BytesIO(written(np.zeros(RATE), RATE))])
def test_impossible_pieces_are_refused(source: Any, piece: dict[str, float]) -> None:
    with pytest.raises(AudioError, match="not a piece of a recording"):
        audio.read(source, RATE, **piece)


# Damage ------------------------------------------------------------------------------------------------------------------


def fault_of(source: Any, **options: Any) -> str:
    """What reading says is wrong with it."""
    with pytest.raises(AudioError) as caught:
        audio.read(source, RATE, **options)
    return str(caught.value)


def test_missing_empty_and_foreign_files(tmp_path: Path) -> None:
    assert fault_of(tmp_path / "none.wav") == "there is no such file"
    assert fault_of(tmp_path) == "this is a folder, not a recording"
    for name, content in {
        "empty.wav": b"",
        "text.wav": b"not audio at all",
        "zeros.mp3": bytes(4096),
        "tag.mp3": b"ID3" * 20,
    }.items():
        (tmp_path / name).write_bytes(content)
    assert fault_of(tmp_path / "empty.wav") == "the file is empty (0 bytes)"
    for name in ("text.wav", "zeros.mp3", "tag.mp3"):
        assert fault_of(tmp_path / name).startswith("not readable as audio (")
        with pytest.raises(AudioError):
            audio.seconds(tmp_path / name, RATE)


def test_a_file_object_open_as_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("RIFF")
    with path.open() as stream:
        assert "open it with 'rb'" in fault_of(stream)


@pytest.mark.parametrize("source", [[], np.zeros(0), np.zeros((0, 2)), np.zeros((2, 0)), torch.zeros(0)])
def test_arrays_without_samples(source: Any) -> None:
    assert fault_of(source) == "the recording has no samples"


@pytest.mark.parametrize("format", ["WAV", "AIFF", "W64"])
@pytest.mark.parametrize("channels", [1, 2])
def test_files_without_samples(format: str, channels: int) -> None:
    assert fault_of(io.BytesIO(written(np.zeros((0, channels)), RATE, format))) == "the recording has no samples"


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(value: float, channels: int) -> None:
    samples = np.zeros((100, channels), np.float32)
    samples[7:10] = value
    if channels == 2:
        samples[7] = [np.inf, -np.inf]
    assert fault_of(samples) == "3 of 100 samples are not finite numbers"
    assert fault_of(io.BytesIO(written(samples, 8000, subtype="FLOAT"))) == "3 of 100 samples are not finite numbers"


def test_samples_that_float32_cannot_hold() -> None:
    assert "1 of 3 samples are not finite" in fault_of(np.array([0, 1e300, 0]))


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_one_sample_is_a_recording(rate: int) -> None:
    samples = heard(written(np.array([0.25]), rate))
    assert len(samples) in (1, 2) and np.isfinite(samples).all()


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "AIFF", "AU", "W64", "RF64"])
@pytest.mark.parametrize("cut", [4, 12, 20, 40, 60, 100, 0.3, 0.5, 0.9, -2, -1])
def test_a_truncated_file_is_never_taken_for_whole(format: str, cut: float, tmp_path: Path) -> None:
    noise = np.random.default_rng(2).normal(0, 0.1, 2 * RATE)
    content = written(sine(440, RATE, 2.0) + noise, RATE, format)
    end = round(cut * len(content)) if isinstance(cut, float) else cut
    path = tmp_path / "cut"
    path.write_bytes(content[:end])
    fault = fault_of(path)
    assert fault.startswith(("truncated: ", "damaged: ", "not readable as audio"))
    if format == "WAV" and end not in (4, 12, 20, 40):  # behind the header it can say how much is missing
        left = len(content[:end]) - 44
        assert fault == f"truncated: its header promises {4 * RATE} bytes, it holds {left}"


@pytest.mark.parametrize("cut", [4, 40, 100, 0.3, 0.5, 0.9])
def test_a_truncated_mp3_is_never_taken_for_whole(cut: float) -> None:
    content = written(sine(440, RATE, 4.0), RATE, "MP3")
    end = round(cut * len(content)) if isinstance(cut, float) else cut
    assert fault_of(io.BytesIO(content[:end])).startswith(("truncated: ", "not readable as audio"))


@pytest.mark.parametrize("format", ["FLAC", "OGG", "MP3"])
def test_damage_in_the_middle_is_an_error_or_heard_around_and_never_a_crash(format: str) -> None:
    content = bytearray(written(sine(440, RATE, 2.0), RATE, format))
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(b ^ 0xFF for b in content[middle : middle + 200])
    try:
        samples = heard(bytes(content))
    except AudioError as error:
        assert str(error).startswith(("truncated: ", "damaged: ", "not readable as audio"))
    else:
        assert len(samples) <= 2 * RATE


# Lengths that the header does not tell -----------------------------------------------------------------------------------


def pipe_wav(samples: Array, riff: int, data: int, *, note: bool = False) -> bytes:
    """A wav file as programs write it that cannot go back to put the sizes in; `note` adds the chunk that ffmpeg has."""
    text = b"INFOISFT" + struct.pack("<I", 14) + b"Lavf61.7.100\0\0"
    chunk = b"LIST" + struct.pack("<I", len(text)) + text if note else b""
    format = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    body = (samples * 32767).astype("<i2").tobytes()
    return b"RIFF" + struct.pack("<I", riff) + b"WAVE" + format + chunk + b"data" + struct.pack("<I", data) + body


UNKNOWN_SIZES = {
    "ffmpeg": (0xFFFFFFFF, 0xFFFFFFFF, True),
    "ffmpeg, bit-exact": (0xFFFFFFFF, 0xFFFFFFFF, False),
    "sox": (0x7FFFF024, 0x7FFFF000, False),
    "arecord": (0x7FFFFFFF, 0x7FFFFFDB, False),
    "two gigabytes": (0x80000024, 0x80000000, False),
    "zeros": (0, 0, False),
    "zeros and a chunk": (0, 0, True),
    "header only": (36, 0, False),
    "unknown and zero": (0xFFFFFFFF, 0, False),
}


@pytest.mark.parametrize("writer", UNKNOWN_SIZES)
def test_wav_files_from_pipes_are_read_to_their_end(writer: str, tmp_path: Path) -> None:
    riff, data, note = UNKNOWN_SIZES[writer]
    content = pipe_wav(sine(440, RATE), riff, data, note=note)
    np.testing.assert_allclose(heard(content), sine(440, RATE), atol=1e-4)
    path = tmp_path / "pipe.wav"
    path.write_bytes(content)
    np.testing.assert_allclose(audio.read(path, RATE, offset=0.5), sine(440, RATE)[8000:], atol=1e-4)
    assert audio.seconds(path, RATE) == 1.0


@pytest.mark.parametrize(("riff", "data"), [(36, 0), (0, 0), (0xFFFFFFFF, 0)])
def test_a_wav_file_from_a_pipe_that_carried_nothing(riff: int, data: int) -> None:
    assert fault_of(io.BytesIO(pipe_wav(np.zeros(0), riff, data))) == "the recording has no samples"


def test_what_follows_an_empty_body_is_not_taken_for_samples() -> None:
    trailer = b"LIST" + struct.pack("<I", 4) + b"INFO"
    content = pipe_wav(np.zeros(0), 36 + len(trailer), 0) + trailer
    assert fault_of(io.BytesIO(content)) == "the recording has no samples"


@pytest.mark.parametrize("samples", [1, 4096, 65536, 65537, 3 * RATE])
def test_flac_files_from_pipes_are_read_to_their_end(samples: int) -> None:
    content = bytearray(written(sine(440, RATE, samples / RATE), RATE, "FLAC"))
    whole = heard(bytes(content))
    content[21] &= 0xF0  # the low 36 bits of bytes 18 to 25 are the number of samples; 0 means unknown
    content[22:26] = bytes(4)
    np.testing.assert_array_equal(heard(bytes(content)), whole)
    np.testing.assert_array_equal(heard(bytes(content), offset=0.5 * samples / RATE), whole[round(0.5 * samples) :])
    assert audio.seconds(io.BytesIO(content), RATE) == samples / RATE
    if samples == 3 * RATE:
        assert fault_of(io.BytesIO(content[: len(content) // 2])).startswith("damaged: ")


def second_frame(content: bytes, start: int) -> int:
    """Where the frame after the one at `start` begins: frames of a stream begin alike."""
    return content.index(content[start : start + 2], start + 4)


@pytest.mark.parametrize("is_loud_first", [True, False])
@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (16000, 2), (44100, 1), (48000, 2), (8000, 1)])
def test_mp3_files_of_changing_bit_rate_without_a_count_are_heard_whole(is_loud_first: bool, rate: int, channels: int) -> None:
    """A decoder that takes the first frame for the measure would stop early, or miss an end that was never there."""
    noise = np.random.default_rng(3).normal(0, 0.1, 4 * rate) + sine(440, rate, 4.0)
    parts = [noise, np.zeros(4 * rate)] if is_loud_first else [np.zeros(4 * rate), noise]
    samples = np.tile(np.concatenate(parts)[:, None], channels)
    content = written(samples, rate, "MP3", bitrate_mode="VARIABLE", compression_level=0.5)
    first = content.index(b"\xff")
    second = second_frame(content, first)
    assert any(tag in content[first:second] for tag in (b"Xing", b"Info"))
    for stripped in (content[second:], b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + content[second:]):
        result = heard(stripped)
        assert len(result) / RATE == pytest.approx(8.0, abs=0.3)  # an encoder's delay is not cut off without its tag
        assert audio.seconds(io.BytesIO(stripped), RATE) == pytest.approx(8.0, abs=0.3)
        loud = np.abs(result[RATE : 3 * RATE]).mean(), np.abs(result[5 * RATE : 7 * RATE]).mean()
        assert (loud[0] > 100 * loud[1]) if is_loud_first else (loud[1] > 100 * loud[0])
