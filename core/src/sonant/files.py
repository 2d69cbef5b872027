"""The small files a component is built from (a tokenizer's model, a vocabulary), by name.

A component that needs files takes `files` as a keyword-only argument and reads them through it.
Where the config came from a checkpoint, a name can only mean a member of that checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath

from sonant.errors import CheckpointError, ConfigError


class Files:
    """Reads files by name and remembers them, so that a model can be saved with all it was built from."""

    def __init__(self, reader: Callable[[str], bytes]) -> None:
        self._reader = reader
        self.read_so_far: dict[str, bytes] = {}

    def read(self, name: str) -> bytes:
        """The content of file `name`.

        Raises:
            ConfigError: there is no such file.
            CheckpointError: the name leads out of the checkpoint.
        """
        if name not in self.read_so_far:
            self.read_so_far[name] = self._reader(name)
        return self.read_so_far[name]

    @classmethod
    def beside(cls, folder: Path) -> Files:
        """Files of a user's own config: relative to the folder it lies in, or absolute."""

        def reader(name: str) -> bytes:
            path = folder / Path(name).expanduser()
            try:
                return path.read_bytes()
            except OSError as error:
                raise ConfigError(
                    f"the config names the file {name!r}, which cannot be read: {path}: {error.strerror}"
                ) from error

        return cls(reader)

    @classmethod
    def inside(cls, folder: Path) -> Files:
        """Files of a model folder: plain names inside it and nothing else."""

        def reader(name: str) -> bytes:
            check_member_name(name)
            check_inside(folder / name, folder)
            try:
                return (folder / name).read_bytes()
            except OSError as error:
                raise CheckpointError(f"{folder} lacks the file {name!r} that its config names") from error

        return cls(reader)

    @classmethod
    def of(cls, members: dict[str, bytes], origin: str) -> Files:
        """Files that are already in memory, e.g. members of an archive called `origin`."""

        def reader(name: str) -> bytes:
            if name not in members:
                raise CheckpointError(f"{origin} lacks the file {name!r} that its config names")
            return members[name]

        return cls(reader)


def _home(folder: Path) -> Path:
    """Where links in a model folder may lead: inside it; from a snapshot in the hub's cache, into that repo's blobs, too."""
    is_snapshot = folder.parent.name == "snapshots" and (folder.parent.parent / "blobs").is_dir()
    return (folder.parent.parent if is_snapshot else folder).resolve()


def check_inside(path: Path, folder: Path) -> None:
    """Refuse a file of a model folder that is a link to somewhere else.

    Raises:
        CheckpointError: it lies outside `folder`.
    """
    if not path.resolve().is_relative_to(_home(folder)):
        raise CheckpointError(f"the file {path.name!r} lies outside {folder}")


def check_member_name(name: str) -> None:
    """Refuse names that could leave the folder they are meant for.

    Raises:
        CheckpointError: the name is absolute, has a drive, a backslash or a zero byte, or contains `..`.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or any(c in name for c in "\\:\0") or not path.parts:
        raise CheckpointError(f"the member name {name!r} leads out of the checkpoint; refused")
