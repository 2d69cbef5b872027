"""Reading recordings: any file libsndfile knows, arrays and file objects, to mono float32 at the model's rate.

Channels are averaged unless one is named; other rates are resampled with soxr at high quality. Samples are in [-1, 1] and
are not normalized. What cannot be heard as meant (missing, truncated, empty, not finite) is an `AudioError`.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import soundfile

from sonant import headers
from sonant.errors import AudioError

Samples = npt.NDArray[np.float32]

EXTENSIONS = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au", ".caf", ".w64", ".rf64"})
"""Files a folder is searched for."""

_MOST_CHANNELS = 64
_BLOCK = 2**20  # samples of each channel read at once
_SHOULD_BE = re.compile(r"^\s*(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_UNCOUNTED = 2**62  # libsndfile gives a flac file from a pipe a length beyond this
_BAD_SEEK = 39  # libsndfile's SFE_BAD_SEEK
_MP3_SLACK = 1152  # a frame; encoders differ in what they count


def read(
    source: Any, sample_rate: int, *, channel: int | None = None, offset: float = 0.0, duration: float | None = None
) -> Samples:
    """Samples `(N,)` of a recording.

    Args:
        source: a path, a binary file object (read from its start), an array (`(N,)`, or `(N, C)`/`(C, N)`, already at
            `sample_rate`; integers are scaled by their range), a torch tensor, or a pair `(array, rate)`.
        sample_rate: in Hz, what the model was trained on.
        channel: which channel, from 0; None averages all.
        offset: seconds to skip.
        duration: seconds to read; None reads to the end.

    Raises:
        AudioError: names the recording and what is wrong with it.
    """
    if not 0 <= offset < math.inf or not (duration is None or 0 <= duration < math.inf):
        raise AudioError(f"offset {offset} and duration {duration} are not a piece of a recording: both are seconds, from 0 on")
    if isinstance(source, (str, Path)) or hasattr(source, "read"):
        mono, rate = _read_file(source, offset, duration, channel)
    else:
        samples, rate = _from_array(source, sample_rate)
        first = round(offset * rate)
        mono = _mono(samples[first : None if duration is None else first + round(duration * rate)], channel)
    if len(mono) == 0:
        raise AudioError("the recording has no samples" + (f" from {offset} s on" if offset else ""))
    if not np.isfinite(mono).all():
        raise AudioError(f"{np.count_nonzero(~np.isfinite(mono))} of {len(mono)} samples are not finite numbers")
    return _resample(mono, rate, sample_rate)


def seconds(source: Any, sample_rate: int) -> float:
    """How long a recording is, from its header where it has one.

    Raises:
        AudioError: it cannot be opened.
    """
    if isinstance(source, (str, Path)) or hasattr(source, "read"):
        with _open(source) as file:
            try:
                count = file.frames if file.frames < _UNCOUNTED else sum(map(len, _blocks(file)))
            except soundfile.LibsndfileError as error:
                raise AudioError(f"damaged: {error.error_string}") from error
            return float(count / file.samplerate)
    samples, rate = _from_array(source, sample_rate)
    return len(samples) / rate


def rewindable(source: Any) -> Any:
    """A file object that can be read from its start more than once: itself, or its content where it is a pipe or a socket."""
    if hasattr(source, "seek") and getattr(source, "seekable", lambda: True)():
        return source
    return io.BytesIO(source.read())


def _open(source: Any) -> soundfile.SoundFile:
    if isinstance(source, (str, Path)):
        path = Path(source)
        try:
            there = path.exists()
        except (OSError, ValueError) as error:  # a name too long, a folder that is closed to us
            raise AudioError(f"it cannot be looked for: {getattr(error, 'strerror', None) or error}") from error
        if not there:
            raise AudioError("there is no such file")
        if path.is_dir():
            raise AudioError("this is a folder, not a recording")
        if path.stat().st_size == 0:
            raise AudioError("the file is empty (0 bytes)")
    elif isinstance(source, io.TextIOBase):
        raise AudioError("the file object is open as text; open it with 'rb'")
    else:
        source = rewindable(source)
    try:
        mended = _mend(source)
        return soundfile.SoundFile(source if mended is None else mended)
    except AudioError:
        raise
    except (soundfile.LibsndfileError, OSError, TypeError, ValueError) as error:
        reason = str(getattr(error, "error_string", error)).rstrip(".")
        if "possibly a pipe" in reason:  # what libsndfile says of an mp3 file without a frame
            reason = "no whole mp3 frame"
        raise AudioError(f"not readable as audio ({reason}); wav, flac, ogg and mp3 are") from error


def _mend(source: str | Path | IO[bytes]) -> io.BytesIO | None:
    if isinstance(source, (str, Path)):
        with open(source, "rb") as stream:
            return headers.mend(stream)
    mended = headers.mend(source)
    source.seek(0)
    return mended


def _read_file(source: str | Path | IO[bytes], offset: float, duration: float | None, channel: int | None) -> tuple[Samples, int]:
    with _open(source) as file:
        _check_whole(file)
        first = round(offset * file.samplerate)
        count = None if duration is None else round(duration * file.samplerate)
        try:
            if file.frames >= _UNCOUNTED:
                samples = np.concatenate([_mono(block, channel) for block in _blocks(file)])
                return samples[first : None if count is None else first + count], file.samplerate
            first = min(first, file.frames)
            expected = file.frames - first if count is None else min(count, file.frames - first)
            if first:
                file.seek(first)
            samples = _read_mono(file, expected, channel)
        except (soundfile.LibsndfileError, OSError) as error:
            raise AudioError(f"damaged: {getattr(error, 'error_string', error)}") from error
        slack = _MP3_SLACK if file.format == "MP3" else 0
        if len(samples) < expected - slack:
            raise AudioError(f"truncated: {len(samples)} of {expected} samples can be read")
        return samples, file.samplerate


def _read_mono(file: soundfile.SoundFile, count: int, channel: int | None) -> Samples:
    """At most so many samples, one channel or the average of all. Block by block: hours with all channels are gigabytes."""
    samples, filled = np.empty(count, dtype=np.float32), 0
    while True:
        block = _mono(file.read(min(_BLOCK, count - filled), dtype="float32", always_2d=True), channel)
        samples[filled : filled + len(block)] = block
        filled += len(block)
        if len(block) == 0 or filled == count:
            return samples[:filled]


def _blocks(file: soundfile.SoundFile) -> Iterator[Samples]:
    """All there is, of a file that does not tell its length: at its end libsndfile fails to seek, the samples read already."""
    size = 2**16
    while size == 2**16:
        block = np.full((size, file.channels), np.nan, dtype=np.float32)
        try:
            file.read(out=block)
        except soundfile.LibsndfileError as error:
            if error.code != _BAD_SEEK:
                raise
        size = int(np.count_nonzero(~np.isnan(block[:, 0])))
        yield block[:size]


def _check_whole(file: soundfile.SoundFile) -> None:
    """libsndfile quietly shortens a file whose header promises more than there is; its log tells."""
    match = _SHOULD_BE.search(file.extra_info)
    if match and int(match[2]) < int(match[1]) < headers.UNKNOWN_SIZE:
        raise AudioError(f"truncated: its header promises {match[1]} bytes, it holds {match[2]}")


def _from_array(source: Any, sample_rate: int) -> tuple[Samples, int]:
    rate = sample_rate
    if isinstance(source, tuple):
        if len(source) != 2 or not isinstance(source[1], (int, float, np.number)) or not 1 <= source[1] < math.inf:
            raise AudioError("a tuple is a recording with its rate, (array, samples a second); several recordings go in a list")
        source, rate = source[0], int(source[1])
    try:
        array = _numpy(source)
    except (ValueError, TypeError) as error:
        raise AudioError(f"{type(source).__name__} is not audio: {error}") from error
    if array.dtype.kind not in "fiu":
        raise AudioError(f"expected a path, a file object or an array of numbers, not {type(source).__name__}")
    if array.size == 0:
        return np.zeros((0, 1), dtype=np.float32), rate
    if array.ndim == 2 and array.shape[0] < array.shape[1] and array.shape[0] <= _MOST_CHANNELS:
        array = array.T
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] > _MOST_CHANNELS:
        raise AudioError(f"an array of shape {array.shape} is not a recording: expected (N,), (N, C) or (C, N)")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which `read` refuses
        return np.ascontiguousarray(_scaled(array), dtype=np.float32), rate


def _scaled(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Integers to [-1, 1) by their range."""
    if array.dtype.kind == "f":
        return array
    if array.dtype.itemsize > 4:
        raise AudioError(f"{array.dtype} samples have no range that is usual for audio; give float32, int16 or int32")
    info = np.iinfo(array.dtype)
    middle = 0 if array.dtype.kind == "i" else (info.max + 1) / 2
    return (array.astype(np.float64) - middle) / 2.0 ** (info.bits - 1)


def _numpy(source: Any) -> npt.NDArray[Any]:
    if not hasattr(source, "detach"):
        return np.asarray(source)
    tensor = source.detach().cpu()
    return np.asarray(tensor.float() if tensor.is_floating_point() else tensor)  # numpy has no bfloat16


def _mono(samples: Samples, channel: int | None) -> Samples:
    if channel is None:
        with np.errstate(invalid="ignore"):  # infinities of both signs; `read` refuses them
            return samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    if not 0 <= channel < samples.shape[1]:
        raise AudioError(f"there is no channel {channel}: the recording has {samples.shape[1]}, numbered from 0")
    return np.ascontiguousarray(samples[:, channel])


def _resample(samples: Samples, rate: int, wanted: int) -> Samples:
    if rate == wanted:
        return samples
    import soxr

    resampled: Samples = soxr.resample(samples, rate, wanted, quality="HQ").astype(np.float32, copy=False)
    return resampled if len(resampled) else np.zeros(1, dtype=np.float32)
