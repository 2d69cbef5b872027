"""A run has its folder to itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sonant.errors import ConfigError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Meanwhile no other run writes into `folder`, which is made if it is not there.

    The lock ends with this process, however that ends, and processes that it forks do not have it.

    Raises:
        ConfigError: another run has it, or it cannot be made.
    """
    path = folder / LOCK
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = path.open("wb")
    except OSError as error:
        raise ConfigError(f"exp_manager.exp_dir: {folder} cannot be written: {error.strerror}") from error
    with stream:
        if fcntl is not None:
            try:
                fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigError(
                    f"another run is writing into {folder}: wait for its end, or start this one with another exp_manager.name"
                ) from error
            except OSError:  # a file system without locks
                pass
        try:
            yield
        finally:
            with suppress(OSError):  # it may have been deleted meanwhile
                path.unlink(missing_ok=True)
                for place in made:
                    place.rmdir()  # only of what is empty: a run that did not begin leaves nothing
