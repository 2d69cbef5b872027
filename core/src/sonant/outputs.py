"""Writing results as they come: to standard output, to one file, or to a file for each recording.

Whole files appear atomically. A `.jsonl` file grows row by row; what a killed run left half-written is dropped, and the next run
over the same output skips what is there.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from sonant.errors import ConfigError
from sonant.inputs import Item

EXTENSIONS = {"txt": ".txt", "json": ".json", "jsonl": ".jsonl", "srt": ".srt", "vtt": ".vtt", "ctm": ".ctm"}
_ONE_RECORDING_EACH = ("srt", "vtt")


class Result(Protocol):
    """What a task returns: something that writes itself in a named format."""

    def format(self, name: str) -> str: ...


class Sink(Protocol):
    """A place for results."""

    def is_done(self, item: Item) -> bool:
        """Whether an earlier run wrote this one already."""
        ...

    def write(self, item: Item, result: Result) -> None: ...

    def close(self) -> None:
        """All results are written: finish."""
        ...


def open_sink(output: str | None, format: str, items: Sequence[Item], shard: tuple[int, int] = (1, 1)) -> Sink:
    """The sink for `output`: None or `-` for standard output, a folder (existing, or without a suffix), or a file.

    With more than one shard, each writes its own file, `name.2-of-8.jsonl`.

    Raises:
        ConfigError: the format needs a file for each recording, and there are several.
    """
    if output is None or output == "-":
        _check_single(format, items)
        return _Stream(sys.stdout, format, len(items))
    path = Path(output).expanduser()
    if path.is_dir() or output.endswith(os.sep) or not path.suffix:
        return _Folder(path, format, items)
    if shard[1] > 1:
        path = path.with_suffix(f".{shard[0]}-of-{shard[1]}{path.suffix}")
    if format == "jsonl":
        return _Rows(path)
    _check_single(format, items)
    return _WholeFile(path, format, len(items))


def _check_single(format: str, items: Sequence[Item]) -> None:
    if format in _ONE_RECORDING_EACH and len(items) > 1:
        raise ConfigError(f"--format {format} describes one recording, and there are {len(items)}: name a folder with --output FOLDER")


def write_atomically(path: Path, text: str) -> None:
    """The file appears with all its content or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, "utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


class _Stream:
    """Results on an open text stream; several as `json` make one array."""

    def __init__(self, stream: IO[str], format: str, count: int) -> None:
        self._stream, self._format = stream, format
        self._array = format == "json" and count > 1
        self._written = 0

    def is_done(self, item: Item) -> bool:
        return False

    def write(self, item: Item, result: Result) -> None:
        if self._array:
            self._stream.write(",\n" if self._written else "[\n")
        text = result.format(self._format)
        self._stream.write(text if self._array else text.rstrip("\n") + "\n")
        self._stream.flush()
        self._written += 1

    def close(self) -> None:
        if self._array:
            self._stream.write("\n]\n" if self._written else "[]\n")
        self._stream.flush()


class _WholeFile:
    """All results in one file, which appears when the last is there."""

    def __init__(self, path: Path, format: str, count: int) -> None:
        self._path = path
        self._finished = path.exists()
        self._partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        self._stream: IO[str] | None = None
        self._inner: _Stream | None = None
        self._format, self._count = format, count

    def is_done(self, item: Item) -> bool:
        return self._finished

    def write(self, item: Item, result: Result) -> None:
        if self._inner is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self._partial.open("w", encoding="utf-8")
            self._inner = _Stream(self._stream, self._format, self._count)
        self._inner.write(item, result)

    def close(self) -> None:
        if self._inner is not None and self._stream is not None:
            self._inner.close()
            self._stream.close()
            os.replace(self._partial, self._path)


class _Rows:
    """A manifest that grows by a row for each recording."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._done = _whole_rows(path)
        self._stream = path.open("a", encoding="utf-8")

    def is_done(self, item: Item) -> bool:
        return _key(item.name, item.offset) in self._done

    def write(self, item: Item, result: Result) -> None:
        row = json.loads(result.format("jsonl"))
        if "offset" in item.row:
            row["offset"] = item.offset
        self._stream.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._stream.flush()

    def close(self) -> None:
        self._stream.close()


def _key(name: str, offset: Any) -> tuple[str, float]:
    return name, float(offset or 0.0)


def _whole_rows(path: Path) -> set[tuple[str, float]]:
    """The recordings an earlier run wrote; a last row without its line end is cut off."""
    if not path.exists():
        return set()
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    rows = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            row = json.loads(line)
            rows.append(_key(row["audio_filepath"], row.get("offset")))
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path}:{number} is not a result row, so this run will not append to it; name another --output") from error
    return set(rows)


class _Folder:
    """A file for each recording, named after it; the tree below the recordings' common folder is kept."""

    def __init__(self, folder: Path, format: str, items: Sequence[Item]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._format = format
        names = _names(items)
        self._paths = {id(item): folder / f"{name}{EXTENSIONS[format]}" for item, name in zip(items, names, strict=True)}

    def is_done(self, item: Item) -> bool:
        return self._paths[id(item)].exists()

    def write(self, item: Item, result: Result) -> None:
        write_atomically(self._paths[id(item)], result.format(self._format).rstrip("\n") + "\n")

    def close(self) -> None:
        pass


def _names(items: Sequence[Item]) -> list[str]:
    """A distinct relative name for each item; its suffix and offset are kept only where names would clash without."""
    paths = [Path(item.name).absolute() for item in items]
    common = Path(os.path.commonpath([p.parent for p in paths])) if paths else Path()
    full = [p.relative_to(common) for p in paths]
    stems = [p.with_suffix("").as_posix() for p in full]
    names = [s if stems.count(s) == 1 else p.as_posix() for s, p in zip(stems, full, strict=True)]
    return [n if names.count(n) == 1 else f"{n}.{item.offset:g}" for n, item in zip(names, items, strict=True)]
