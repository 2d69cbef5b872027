"""Writing and reading the file of a checkpoint: whole or not at all, and without running anything."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO

from sonant.errors import CheckpointError

PART = ".part"
"""The suffix of a file that is being written. One that is left was not finished."""


class WholeFiles(CheckpointIO):
    """Checkpoints that take the place of an older one only once they are on the disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write `checkpoint`.

        Raises:
            CheckpointError: it cannot be written. What was there before is as it was.
        """
        path = Path(path)
        part = path.with_name(path.name + PART)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as stream:
                torch.save(checkpoint, stream)
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(path)
            _sync_folder(path.parent)
        except (OSError, RuntimeError) as error:  # torch reports a failed write as a RuntimeError
            part.unlink(missing_ok=True)
            raise CheckpointError(
                f"cannot write the checkpoint {path}: {_reason(error)}. Those written before are whole: make room, and go on "
                "with `sonant train CONFIG --resume`"
            ) from error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read one: tensors and plain values, whatever `weights_only` says.

        Raises:
            CheckpointError: it cannot be read, or holds anything else.
        """
        return read(path, map_location=map_location or "cpu")

    def remove_checkpoint(self, path: Any) -> None:
        """Delete one that is no longer wanted."""
        Path(path).unlink(missing_ok=True)


def read(path: str | Path, **how: Any) -> dict[str, Any]:
    """What a checkpoint holds; `how` are arguments of `torch.load`.

    Raises:
        CheckpointError: it cannot be read, or holds anything but tensors and plain values.
    """
    try:
        found = torch.load(path, weights_only=True, **{"map_location": "cpu", **how})
    except Exception as error:  # whatever a file may have in it
        refused = type(error).__name__ == "UnpicklingError"  # what torch says of these recommends to run them
        what = "it holds something else than tensors and plain values"
        reason = what if refused else (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"cannot read the checkpoint {path}: {reason}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"cannot read the checkpoint {path}: it holds a {type(found).__name__}, not the state of a run")
    return found


def is_whole(path: Path) -> bool:
    """Whether a file has the end that torch writes last; cheap, whatever its size."""
    return zipfile.is_zipfile(path)


def clear_parts(folder: Path) -> None:
    """Delete what a run that was killed left half written."""
    for path in folder.glob(f"*{PART}"):
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Put the new name on the disk, too; not every system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    return cause.strerror or str(cause) if isinstance(cause, OSError) else str(error).splitlines()[0]
