"""Where examples come from: manifests beside audio files or tar files, and lhotse's. Each is lines and a way to read one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from attrs import evolve, frozen

from sonant import audio
from sonant.audio import Samples
from sonant.errors import AudioError
from sonant_training.data import cuts, filenames, tars
from sonant_training.data.config import DataConfig, SourceConfig
from sonant_training.data.limits import MOST_SECONDS
from sonant_training.data.lines import Lines
from sonant_training.data.pairs import Pairs
from sonant_training.data.tars import TarPlaces

Row = dict[str, Any]


class Places(Protocol):
    """What the lines of a source look like: a file's own, or what a tar file holds."""

    path: Path

    def __len__(self) -> int: ...

    def parse(self, index: int) -> Row | None:
        """What a line says, None where it is empty; a `ValueError` says why it says nothing."""
        ...

    def where(self, index: int) -> str:
        """What a line is called in messages."""
        ...


@frozen(kw_only=True, eq=False)
class Source:
    """Examples of one kind.

    `row` makes a row (`text`, `duration`, …) of what a line says, or a `ValueError` says why it is none. `audio` is what
    `sonant.audio.read` reads of a line and its row. `shards` is the tar file of each line, from 0, where there are such.
    """

    lines: Places
    row: Callable[[Row], Row]
    audio: Callable[[int, Row], Any]
    shards: npt.NDArray[np.int64] | None = None
    weight: float = 1.0
    lang: str | None = None

    def read(self, line: int, row: Row, sample_rate: int, channel: int | None) -> Samples:
        """The samples of a line's example."""
        return read_piece(self.audio(line, row), row, sample_rate, row.get("channel", channel))


def open_all(config: DataConfig, folder: Path) -> list[Source]:
    """All sources of a config, in order; relative names are in `folder`.

    Raises:
        DataError: a file is missing or is none of its kind.
    """
    configs = config.input_cfg or [_only(config)]
    return [evolve(source, weight=one.weight, lang=one.lang) for one in configs for source in _open(one, folder)]


def _only(config: DataConfig) -> SourceConfig:
    return SourceConfig(
        manifest_filepath=config.manifest_filepath,
        tarred_audio_filepaths=config.tarred_audio_filepaths,
        shar_path=config.shar_path,
        cuts_path=config.cuts_path,
    )


def _open(config: SourceConfig, folder: Path) -> list[Source]:
    if config.cuts_path is not None:
        return [_beside(path, cuts.cut_row) for path in filenames.expand(config.cuts_path, folder)]
    if config.shar_path is not None:
        folders = filenames.expand(config.shar_path, folder)
        return [_shard(manifest, tar) for path in folders for manifest, tar in cuts.shards(path)]
    packed = filenames.expand(config.tarred_audio_filepaths, folder) if config.tarred_audio_filepaths is not None else []
    if config.manifest_filepath is None:
        pairs = Pairs(packed)
        return [Source(lines=pairs, row=_checked, audio=partial(_packed, pairs.audio), shards=pairs.audio.tar)]
    manifests = filenames.expand(config.manifest_filepath, folder)
    if not packed:
        return [_beside(path, partial(manifest_row, folder=str(path.parent))) for path in manifests]
    if len(manifests) == len(packed) > 1:  # a manifest for each tar file
        return [_tarred(Lines(path), [tar]) for path, tar in zip(manifests, packed, strict=True)]
    return [_tarred(Lines(path), packed) for path in manifests]


def _beside(path: Path, row: Callable[[Row], Row]) -> Source:
    return Source(lines=Lines(path), row=row, audio=_file)


def _tarred(lines: Lines, paths: Sequence[Path]) -> Source:
    return _in_tars(lines, packed_row, tars.find(_names(lines, packed_row), paths))


def _shard(manifest: Path, tar: Path) -> Source:
    lines = Lines(manifest)
    return _in_tars(lines, cuts.cut_row, tars.find(_names(lines, cuts.cut_row), [tar], by_stem=True))


def _in_tars(lines: Lines, row: Callable[[Row], Row], places: TarPlaces) -> Source:
    return Source(lines=lines, row=row, audio=partial(_packed, places), shards=np.maximum(places.tar, 0))


def _names(lines: Lines, row: Callable[[Row], Row]) -> Iterator[tuple[str, int | None]]:
    for index in range(len(lines)):
        try:
            parsed = row(lines.parse(index) or {})
        except ValueError:
            yield "", None  # whoever wants the row is told
            continue
        shard = parsed.get("shard_id")
        yield parsed["audio_filepath"], shard if isinstance(shard, int) else None


def _file(_: int, row: Row) -> Any:
    return row["audio_filepath"]


def _packed(places: TarPlaces, line: int, _: Row) -> Any:
    return places.open(line)


def manifest_row(row: Row, *, folder: str) -> Row:
    """A row of a JSONL manifest, its `audio_filepath` made absolute, its `offset` and `duration` checked."""
    row = dict(row)
    _require_name(row)
    row["audio_filepath"] = os.path.join(folder, os.path.expanduser(row["audio_filepath"]))  # a third of what a `Path` takes
    row = _checked(row)
    if row.get("duration") is None:
        whole, offset = audio.seconds(row["audio_filepath"], 1), row.get("offset") or 0.0
        if offset > whole:
            raise ValueError(f"offset {offset:g} is behind the end of the recording, which has {whole:.3f} s")
        row["duration"] = whole - offset
    return row


def packed_row(row: Row) -> Row:
    """A row of a manifest whose audio is in tar files."""
    _require_name(row)
    if row.get("duration") is None:
        raise ValueError("there is no duration, which rows of audio in tar files need")
    return _checked(row)


def _require_name(row: Row) -> None:
    name = row.get("audio_filepath")
    if not isinstance(name, str) or not name:
        raise ValueError('there is no audio_filepath; expected {"audio_filepath": "…", "text": "…", "duration": seconds}')


def _checked(row: Row) -> Row:
    channel = row.get("channel")
    if channel is not None and (not isinstance(channel, int) or isinstance(channel, bool)):
        raise ValueError(f"channel {channel!r:.40} is not the number of a channel, from 0 on")
    return row | {key: _seconds(row, key) for key in ("offset", "duration") if row.get(key) is not None}


def _seconds(row: Mapping[str, Any], key: str) -> float:
    value = row[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MOST_SECONDS:
        raise ValueError(f"{key} {value!r:.40} is not a number of seconds")
    return float(value)


def read_piece(source: Any, row: Row, sample_rate: int, channel: int | None) -> Samples:
    """The piece of a recording that a row means.

    A `duration` beside an `offset` says where the piece ends. Without, it describes the whole file, which is read to its end: it
    may be rounded.

    Raises:
        AudioError: it cannot be read, or is much longer than the row says, so that a batch may not fit into memory.
    """
    said = row["duration"]
    if "offset" in row:
        return audio.read(source, sample_rate, channel=channel, offset=row["offset"] or 0.0, duration=said)
    most = 1.25 * said + 0.5
    samples = audio.read(source, sample_rate, channel=channel, duration=most + 1)
    if len(samples) > most * sample_rate:
        raise AudioError(f"it is longer than the {said:g} s that the manifest says")
    return samples
