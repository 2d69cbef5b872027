"""A model folder's config, as it was saved, and the licence that lies beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

from sonant import config
from sonant.errors import CheckpointError, ConfigError
from sonant.files import check_inside
from sonant.layout import FOLDER_CONFIG, HF_CONFIG, LICENSE_FILES, NEMO_CONFIG

_BEGINNING: Final = 2**16  # bytes of a README in which its front matter lies
_LONGEST_LINE: Final = 200  # characters
_MOST_VALUES: Final = 2_000_000  # a few lines of YAML can stand for more than a machine holds


def is_huggingface(folder: Path) -> bool:
    """Whether a folder holds a Hugging Face model and not one of ours."""
    return (folder / HF_CONFIG).is_file() and not (folder / FOLDER_CONFIG).exists()


def read_config(folder: Path) -> dict[str, Any]:
    """The config of a model folder as it was saved; nothing in it is looked up.

    Raises:
        CheckpointError: the folder has none, or it holds interpolations, or stands for more than a config can.
        ConfigError: it cannot be read, or is no plain YAML.
    """
    if not (folder / FOLDER_CONFIG).exists():
        raise CheckpointError(f"{folder} is not a model: it has none of {FOLDER_CONFIG}, {NEMO_CONFIG}, {HF_CONFIG}")
    data = config.load_yaml(folder / FOLDER_CONFIG)
    _refuse_interpolation(data, str(folder / FOLDER_CONFIG))
    return data


def _refuse_interpolation(data: dict[str, Any], origin: str) -> None:
    """A saved config is filled already: whatever `${` it holds was put there by somebody else."""
    for value in _values(data, origin):
        if isinstance(value, str) and "${" in value:
            raise CheckpointError(f"{origin}: interpolations such as {value!r} are not resolved in a saved model; refused")


def check_extent(data: dict[str, Any], origin: str) -> None:
    """Refuse a config that a few lines of YAML make larger than a machine, or that holds itself.

    Raises:
        CheckpointError: it does.
    """
    for _ in _values(data, origin):
        pass


def _values(data: dict[str, Any], origin: str) -> Iterator[Any]:
    left: list[Any] = [data]
    for _ in range(_MOST_VALUES):
        if not left:
            return
        value = left.pop()
        if isinstance(value, dict):
            left += value.values()
        elif isinstance(value, list):
            left += value
        else:
            yield value
    raise CheckpointError(f"{origin} stands for more than {_MOST_VALUES:,} values; refused")


def read_license(folder: Path) -> str:
    """The licence that a README states in its front matter, as on the Hugging Face hub, or the first line of a licence file."""
    readme = folder / "README.md"
    if readme.is_file():
        with _open(readme) as file:
            text = _beginning(file)
        front = text.split("---", 2)[1] if text.startswith("---") and text.count("---") > 1 else ""
        try:
            stated = config.parse_yaml(front, str(readme)).get("license") if front else None
        except ConfigError:
            stated = None
        if isinstance(stated, str):
            return stated
    found = next((folder / name for name in LICENSE_FILES if (folder / name).is_file()), None)
    if found is None:
        return ""
    with _open(found) as file:
        return license_line(file)


def license_line(file: IO[bytes]) -> str:
    """The first line of a licence's text that is not empty."""
    lines = (line.strip() for line in _beginning(file).splitlines())
    return next(filter(None, lines), "")[:_LONGEST_LINE]


def _open(path: Path) -> IO[bytes]:
    check_inside(path, path.parent)
    return path.open("rb")


def _beginning(file: IO[bytes]) -> str:
    return file.read(_BEGINNING).decode("utf-8", "replace")
