"""Audio in tar files: where each member stands, so that any of them can be read by itself.

That makes tar files as good as folders: to go on at the exact example, nothing before it need be read. What they are better at is
being few: the plan mixes the examples of some tar files at a time.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from attrs import frozen

from sonant.audio import EXTENSIONS
from sonant.errors import AudioError
from sonant_training.errors import DataError

_NUMBER = re.compile(r"_(\d+)[^/_]*$")
_PIECE = re.compile(r"-sub\d+(?=\.\w+$|$)")


@frozen
class Member:
    """A file in a tar file: its name, and where its bytes are."""

    name: str
    start: int
    size: int


def members(path: Path) -> Iterator[Member]:
    """The files in a tar file, which must not be compressed as a whole.

    Raises:
        DataError: it cannot be opened, is compressed, or is damaged.
    """
    try:
        with tarfile.open(path, mode="r:") as archive:
            for info in archive:
                if info.isreg() and not info.issparse():
                    yield Member(info.name.removeprefix("./"), info.offset_data, info.size)
    except OSError as error:
        raise DataError(f"{path}: the tar file cannot be read: {error.strerror or error}") from error
    except tarfile.TarError as error:
        raise DataError(
            f"{path}: not a whole tar file ({error}); one that is compressed must be unpacked to .tar first"
        ) from error


@frozen(kw_only=True, eq=False)
class TarPlaces:
    """Where the audio of each line is: in which of `paths` (-1: in none), from which byte on, and how many bytes."""

    paths: tuple[Path, ...]
    tar: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]

    def open(self, line: int) -> BytesIO:
        """The audio of a line, in memory.

        Raises:
            AudioError: the tar files lack it, or end before it does.
        """
        if self.tar[line] < 0:
            raise AudioError("it is in none of the tar files")
        path, size = self.paths[self.tar[line]], int(self.size[line])
        with path.open("rb") as file:
            file.seek(int(self.start[line]))
            content = file.read(size)
        if len(content) < size:
            raise AudioError(f"the tar file {path} ends before it does")
        return BytesIO(content)


def find(names: Iterable[tuple[str, int | None]], paths: Sequence[Path], *, by_stem: bool = False) -> TarPlaces:
    """Where each name is. With it comes the number of its shard, if it has one: that in the tar file's name, or its place.

    A name may be that in the tar file or a path that ends in it; of those with `-sub1`, `-sub2` … several are pieces of one file.
    `by_stem` compares without the ending, and looks at audio only.
    """
    numbers = _numbers(paths)
    known: dict[tuple[int, str], Member] = {}
    anywhere: dict[str, int] = {}
    for number, path in enumerate(paths):
        for member in members(path):
            stem, ending = split(member.name)
            if by_stem and ending not in EXTENSIONS:
                continue
            known[number, stem if by_stem else member.name] = member
            anywhere.setdefault(stem if by_stem else member.name, number)
    rows = [_find_one(name, None if shard is None else numbers.get(shard), known, anywhere) for name, shard in names]
    return places(rows, paths)


def places(rows: Sequence[tuple[int, int, int]], paths: Sequence[Path]) -> TarPlaces:
    """Of the tar file, the first byte and the size of each line."""
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return TarPlaces(paths=tuple(paths), tar=table[:, 0], start=table[:, 1], size=table[:, 2])


def split(name: str) -> tuple[str, str]:
    """A name without its ending, and that in lower case, as `.flac`."""
    ending = PurePosixPath(name).suffix
    return name.removesuffix(ending), ending.lower()


def _numbers(paths: Sequence[Path]) -> dict[int, int]:
    """The place of each shard's tar file, by the last number in its name."""
    found = [match for path in paths if (match := _NUMBER.search(path.stem))]
    if len(found) == len(paths) == len({int(match[1]) for match in found}):
        return {int(match[1]): place for place, match in enumerate(found)}
    return {place: place for place in range(len(paths))}


def _find_one(
    name: str, tar: int | None, known: Mapping[tuple[int, str], Member], anywhere: Mapping[str, int]
) -> tuple[int, int, int]:
    last = PurePosixPath(name).name
    for candidate in dict.fromkeys([name, _PIECE.sub("", name), last, _PIECE.sub("", last)]):
        place = tar if tar is not None and (tar, candidate) in known else anywhere.get(candidate)
        if place is not None:
            member = known[place, candidate]
            return place, member.start, member.size
    return -1, 0, 0
