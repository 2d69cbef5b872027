"""The texts that a tokenizer is made of: those of manifests, or the lines of text files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import frozen

from sonant.errors import ConfigError
from sonant_training.data.tools import rows


@frozen
class Text:
    """What was said, and in how many seconds, where that is known."""

    text: str
    seconds: float | None = None


def read(paths: Sequence[Path]) -> list[Text]:
    """The texts that are not empty.

    Raises:
        ConfigError: a file cannot be read, a row is none or has no text (with the line), or there is no text at all.
    """
    found = [text for path in paths for text in (_of_manifest(path) if path.suffix in (".jsonl", ".json") else _of_lines(path))]
    if not found:
        raise ConfigError(f"there is no text in {', '.join(map(str, paths))}")
    return found


def _of_manifest(path: Path) -> Iterator[Text]:
    for row in rows.read([path]):
        if row.fault:
            raise ConfigError(f"{row.where}: {row.fault}; `sonant data validate {path}` finds all such lines")
        if row.text is None:
            raise ConfigError(f'{row.where}: no "text", which says what was said; "" for a recording without words')
        if any("\ud800" <= character <= "\udfff" for character in row.text):
            raise ConfigError(
                f"{row.where}: the text has half a surrogate pair; `sonant data validate {path}` finds all such lines"
            )
        if row.text.strip():
            yield Text(row.text, row.duration)


def _of_lines(path: Path) -> Iterator[Text]:
    try:
        with path.open(encoding="utf-8-sig") as stream:
            yield from (Text(line.strip()) for line in stream if line.strip())
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is neither a manifest, which ends in .jsonl, nor text in UTF-8: {error}") from error
