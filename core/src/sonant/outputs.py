"""Writing results as they come: to standard output, to one file, or to a file for each recording.

Whole files appear atomically. A `.jsonl` file grows row by row; what a killed run left half-written is dropped, and the next run
over the same output skips what is there.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from sonant.errors import ConfigError
from sonant.inputs import Item
from sonant.results import dumps

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

    def close(self, *, whole: bool = True) -> None:
        """No more results come: finish. `whole=False` says that the run was broken off before its end."""
        ...


def open_sink(
    output: str | None, format: str, items: Sequence[Item], shard: tuple[int, int] = (1, 1), *, overwrite: bool = False
) -> Sink:
    """The sink for `output`: None or `-` for standard output, a folder (existing, or without a suffix), or a file.

    `items` are those of all shards, so that each shard names its files alike. With more than one shard, each writes its own
    file, `name.2-of-8.jsonl`. `overwrite` takes nothing for done.

    Raises:
        ConfigError: the format needs a file for each recording, and there are several; or `output` cannot be written.
    """
    if output is None or output == "-":
        _check_single(format, items)
        return _Stream(sys.stdout, format, len(items))
    path = Path(output).expanduser()
    try:
        if path.is_dir() or output.endswith(os.sep) or not path.suffix:
            return _Folder(path, format, items, overwrite)
        if shard[1] > 1:
            path = path.with_suffix(f".{shard[0]}-of-{shard[1]}{path.suffix}")
        if format == "jsonl":
            return _Rows(path, overwrite)
        _check_single(format, items)
        return _WholeFile(path, format, len(items), overwrite)
    except OSError as error:
        raise ConfigError(f"--output {output} cannot be written: {error.strerror or error}") from error


def _check_single(format: str, items: Sequence[Item]) -> None:
    if format in _ONE_RECORDING_EACH and len(items) > 1:
        raise ConfigError(
            f"--format {format} describes one recording, and there are {len(items)}: name a folder with --output FOLDER"
        )


def _block(text: str, format: str) -> str:
    """With its line end; the subtitles of silence are no lines at all, its text is an empty one."""
    text = text.rstrip("\n")
    return f"{text}\n" if text or format == "txt" else ""


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
        self._stream.write(text if self._array else _block(text, self._format))
        self._stream.flush()
        self._written += 1

    def close(self, *, whole: bool = True) -> None:
        if self._array:
            self._stream.write("\n]\n" if self._written else "[]\n")
        self._stream.flush()


class _WholeFile:
    """All results in one file, which appears when the last is there."""

    def __init__(self, path: Path, format: str, count: int, overwrite: bool) -> None:
        self._path = path
        self._finished = path.exists() and not overwrite
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

    def close(self, *, whole: bool = True) -> None:
        if self._inner is not None and self._stream is not None:
            self._inner.close()
            self._stream.close()
            if whole:
                os.replace(self._partial, self._path)
            else:
                self._partial.unlink()


class _Rows:
    """A manifest that grows by a row for each recording."""

    def __init__(self, path: Path, overwrite: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._mode = path, "w" if overwrite else "a"
        self._done = set() if overwrite else _whole_rows(path)
        self._stream: IO[str] | None = None  # opened for the first row, so that a run that fails before it overwrites nothing

    def is_done(self, item: Item) -> bool:
        return (item.name, _offset(item)) in self._done

    def write(self, item: Item, result: Result) -> None:
        row = json.loads(result.format("jsonl"))
        row.pop("audio_filepath", None)
        row = {"audio_filepath": item.name} | row
        if _offset(item) is not None:
            row["offset"] = item.offset
        if self._stream is None:
            self._stream = self._path.open(self._mode, encoding="utf-8")
        self._stream.write(dumps(row) + "\n")
        self._stream.flush()

    def close(self, *, whole: bool = True) -> None:
        if self._stream is not None:
            self._stream.close()


def _offset(item: Item) -> float | None:
    """Where a piece begins; None for a recording as a whole, which is another thing than a piece from 0 on."""
    return item.offset if item.offset or "offset" in item.row else None


def _key(row: dict[str, Any]) -> tuple[str, float | None]:
    offset = row.get("offset")
    return row["audio_filepath"], None if offset is None else float(offset)


def _whole_rows(path: Path) -> set[tuple[str, float | None]]:
    """The recordings an earlier run wrote; a last row without its line end is cut off."""
    if not path.exists():
        return set()
    *lines, last = path.read_bytes().split(b"\n")
    rows = set()
    for number, line in enumerate(lines, start=1):
        try:
            rows.add(_key(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _foreign(path, number) from error
    if last:
        if not (last.startswith(_ROW) or _ROW.startswith(last)):
            raise _foreign(path, len(lines) + 1)
        os.truncate(path, path.stat().st_size - len(last))
    return rows


_ROW = b'{"audio_filepath": "'  # how every row begins


def _foreign(path: Path, line: int) -> ConfigError:
    return ConfigError(f"{path}:{line} is not a result row, so this run will not append to it; name another --output")


class _Folder:
    """A file for each recording, named after it; the tree below the folder that was given, or the common one, is kept."""

    def __init__(self, folder: Path, format: str, items: Sequence[Item], overwrite: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._format, self._overwrite = format, overwrite
        self._items = items  # kept, so that their ids stay theirs
        names = _names(items)
        self._paths = {id(item): folder / f"{name}{EXTENSIONS[format]}" for item, name in zip(items, names, strict=True)}

    def is_done(self, item: Item) -> bool:
        return not self._overwrite and self._paths[id(item)].exists()

    def write(self, item: Item, result: Result) -> None:
        write_atomically(self._paths[id(item)], _block(result.format(self._format), self._format))

    def close(self, *, whole: bool = True) -> None:
        pass


def _names(items: Sequence[Item]) -> list[str]:
    """A distinct relative name for each item; its suffix, offset and a number are added only where names would clash without."""
    paths = [Path(os.path.abspath(item.name)) for item in items]  # no `..` is left in these
    tops = {os.path.abspath(item.folder or path.parent) for item, path in zip(items, paths, strict=True)}
    common = os.path.commonpath(tops) if tops else os.curdir
    full = [p.relative_to(common) for p in paths]
    names = [p.with_suffix("").as_posix() for p in full]
    names = _told_apart(names, [p.as_posix() for p in full])
    names = _told_apart(names, [f"{n}.{item.offset:.15g}" for n, item in zip(names, items, strict=True)])
    return _told_apart(names, [f"{name}.{number}" for number, name in enumerate(names)])


def _told_apart(names: list[str], longer: list[str]) -> list[str]:
    """The names, the longer ones where several are equal."""
    count = Counter(names)
    return [name if count[name] == 1 else other for name, other in zip(names, longer, strict=True)]
