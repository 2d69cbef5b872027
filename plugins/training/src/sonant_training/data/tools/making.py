"""A manifest of the recordings in a folder, with the texts that lie beside them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from attrs import define, field, frozen
from tqdm import tqdm

from sonant import audio
from sonant.audio import EXTENSIONS
from sonant.errors import AudioError, ConfigError
from sonant_training.data.tools.threads import in_order

BESIDE: Final = (".txt", ".lab")
"""Suffixes of files that hold the text of the recording with the same name."""

_LISTS: Final = "*.trans.txt"  # of LibriSpeech: the texts of a folder's recordings, a line each
_SEPARATOR: Final = re.compile(r"[\t|]")


@define
class Made:
    """The rows of a manifest, and the recordings that have none: those without a text, and those that cannot be read."""

    rows: list[dict[str, Any]] = field(factory=list)
    without_text: list[Path] = field(factory=list)
    unreadable: list[tuple[Path, str]] = field(factory=list)

    @property
    def seconds(self) -> float:
        """Of audio."""
        return float(sum(row["duration"] for row in self.rows))


def make(
    folder: Path,
    output: Path,
    *,
    texts: Sequence[Path] = (),
    values: Mapping[str, str] | None = None,
    workers: int | None = None,
) -> Made:
    """The rows for all recordings below a folder, in the order of their names; nothing is written.

    Args:
        folder: searched through all levels.
        output: where the manifest will lie, which its paths are relative to.
        texts: tables of texts, a recording on each line: its name, with or without suffix and folders, then a tab, `|` or, where
            there is neither, a space, then the text; of several behind `|` the last. Without tables, the text of `a.wav` is in
            `a.txt` or `a.lab`, or in the `*.trans.txt` of its folder.
        values: what each row has besides, as `lang`.
        workers: threads; None takes one for each CPU that this process may use.

    Raises:
        ConfigError: there is no recording, or a table cannot be read or names one twice.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS and path.is_file())
    if not found:
        raise ConfigError(f"{folder}: no recordings in this folder; looked for {' '.join(sorted(EXTENSIONS))}")
    table = _table(texts) if texts else None
    made = Made()
    said = in_order(partial(_said, folder=folder, table=table), found, workers)
    lists: dict[Path, dict[str, str]] = {}
    for heard in tqdm(said, total=len(found), unit="file", disable=None):
        text = heard.text
        if text is None and table is None:
            text = _listed(heard.path, lists)
        if heard.fault:
            made.unreadable.append((heard.path, heard.fault))
        elif text is None:
            made.without_text.append(heard.path)
        else:
            name = Path(os.path.relpath(heard.path, output.parent)).as_posix()
            made.rows.append({"audio_filepath": name, "text": text, "duration": round(heard.seconds, 3), **(values or {})})
    return made


@frozen
class _Heard:
    path: Path
    text: str | None
    seconds: float = 0.0
    fault: str = ""


def _said(path: Path, folder: Path, table: Mapping[str, str] | None) -> _Heard:
    text = _beside(path) if table is None else _named(path, folder, table)
    try:
        return _Heard(path, text, audio.seconds(path, 16_000))
    except AudioError as error:
        return _Heard(path, text, fault=str(error))


def _beside(path: Path) -> str | None:
    for suffix in BESIDE:
        beside = path.with_suffix(suffix)
        if beside.is_file():
            return " ".join(_read(beside).split())
    return None


def _named(path: Path, folder: Path, table: Mapping[str, str]) -> str | None:
    """The text of a recording in a table that names it by its path below the folder, or by its name alone."""
    below = path.relative_to(folder)
    names = (below.as_posix(), below.with_suffix("").as_posix(), path.name, path.stem)
    return next((table[name] for name in names if name in table), None)


def _listed(path: Path, lists: dict[Path, dict[str, str]]) -> str | None:
    if path.parent not in lists:
        lists[path.parent] = _table(sorted(path.parent.glob(_LISTS)))
    return lists[path.parent].get(path.stem)


def _table(paths: Iterable[Path]) -> dict[str, str]:
    """Texts by the name of their recording.

    Raises:
        ConfigError: a file cannot be read, or a name has two texts (with the line).
    """
    found: dict[str, str] = {}
    for path in paths:
        for number, name, text in _lines(path):
            if found.setdefault(name, text) != text:
                raise ConfigError(f"{path}:{number}: another text of {name!r}, which has one already: {found[name]!r}")
    return found


def _lines(path: Path) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(_read(path).splitlines(), start=1):
        if not line.strip():
            continue
        separator = _SEPARATOR.search(line)
        name, _, rest = line.partition(separator[0] if separator else " ")
        if "\t" in rest:
            raise ConfigError(f"{path}:{number}: more than two columns; expected the name of a recording, a tab, its text")
        # LJSpeech has two texts behind `|`, and in the second numbers are spelled out, as they are read.
        text = rest.rpartition("|")[2] if separator and separator[0] == "|" else rest
        yield number, name.strip(), " ".join(text.split())


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as text in UTF-8: {getattr(error, 'strerror', None) or error}") from error
