"""Tar files without a manifest: each recording beside a `.json` row, or a `.txt` with its text, of the same name (WebDataset)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sonant import audio
from sonant.audio import EXTENSIONS
from sonant_training.data import tars
from sonant_training.data.tars import Member, TarPlaces
from sonant_training.errors import DataError


class Pairs:
    """The recordings of tar files as lines: each has a row, which is read from beside it when it is wanted."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Find the pairs.

        Raises:
            DataError: a tar file cannot be read, or holds no recording.
        """
        self.path = paths[0]
        found = [(number, *pair) for number, path in enumerate(paths) for pair in _pairs(path)]
        self._names = [(recording.name, text.name if text is not None else "") for _, recording, text in found]
        self.audio: TarPlaces = tars.places([(tar, member.start, member.size) for tar, member, _ in found], paths)
        self._text: TarPlaces = tars.places(
            [(tar, text.start, text.size) if text is not None else (-1, 0, 0) for tar, _, text in found], paths
        )

    def __len__(self) -> int:
        return len(self._names)

    def parse(self, index: int) -> dict[str, Any]:
        """The row of a recording.

        Raises:
            ValueError: there is none, or it is not a JSON object.
        """
        name, beside = self._names[index]
        if not beside:
            raise ValueError(f"there is no .json and no .txt beside {name}")
        content = self._text.open(index).read()
        row: Any = _json(content) if beside.lower().endswith(".json") else {"text": content.decode("utf-8").strip()}
        if not isinstance(row, dict):
            raise ValueError(f"{beside}: expected an object {{…}}, not {row!r}")
        row["audio_filepath"] = name
        if row.get("duration") is None:
            row["duration"] = audio.seconds(self.audio.open(index), 1)
        return row

    def where(self, index: int) -> str:
        """`train_0.tar:clip.flac`, for messages."""
        return f"{self.audio.paths[self.audio.tar[index]]}:{self._names[index][0]}"


def _pairs(path: Path) -> list[tuple[Member, Member | None]]:
    recordings: dict[str, Member] = {}
    texts: dict[str, Member] = {}
    for member in tars.members(path):
        stem, ending = tars.split(member.name)
        if ending in EXTENSIONS:
            recordings[stem] = member
        elif ending == ".json" or (ending == ".txt" and stem not in texts):
            texts[stem] = member
    if not recordings:
        raise DataError(f"{path}: no audio files in this tar file; looked for {' '.join(sorted(EXTENSIONS))}")
    return [(member, texts.get(stem)) for stem, member in recordings.items()]


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("brackets within brackets without end") from error
