"""A model folder's config, as it was saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from sonant import config
from sonant.errors import CheckpointError
from sonant.layout import FOLDER_CONFIG, NEMO_CONFIG

_MOST_VALUES: Final = 2_000_000  # a few lines of YAML can stand for more than a machine holds


def read_config(folder: Path) -> dict[str, Any]:
    """The config of a model folder as it was saved; nothing in it is looked up.

    Raises:
        CheckpointError: the folder has none, or it holds interpolations, or stands for more than a config can.
        ConfigError: it cannot be read, or is no plain YAML.
    """
    if not (folder / FOLDER_CONFIG).exists():
        raise CheckpointError(f"{folder} is not a model: it has neither {FOLDER_CONFIG} nor {NEMO_CONFIG}")
    data = config.load_yaml(folder / FOLDER_CONFIG)
    _refuse_interpolation(data, str(folder / FOLDER_CONFIG))
    return data


def _refuse_interpolation(data: dict[str, Any], origin: str) -> None:
    """A saved config is filled already: whatever `${` it holds was put there by somebody else."""
    left: list[Any] = [data]
    for _ in range(_MOST_VALUES):
        if not left:
            return
        value = left.pop()
        if isinstance(value, dict):
            left += value.values()
        elif isinstance(value, list):
            left += value
        elif isinstance(value, str) and "${" in value:
            raise CheckpointError(f"{origin}: interpolations such as {value!r} are not resolved in a saved model; refused")
    raise CheckpointError(f"{origin} stands for more than {_MOST_VALUES:,} values; refused")
