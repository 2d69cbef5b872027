"""Fetch the recordings of the recipe: one Debian package, unpacked and cut into clips with Python alone.

The package holds the data of a game in one file, whose table says where each clip lies. The clips that `queen.jsonl` lists are
written as MP3 files; a second call does only what is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import lzma
import os
import shutil
import struct
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

HERE: Final = Path(__file__).resolve().parent

DEB: Final = "flight-of-the-amazon-queen_1.0.0-9_all.deb"
SHA256: Final = "40c08fd258d6fe95c46c1eaf5e9137f84ba330657995a281bd887c94a560a0f1"
SIZE: Final = 34_859_620
URLS: Final = (
    f"https://deb.debian.org/debian/pool/main/f/flight-of-the-amazon-queen/{DEB}",
    f"https://snapshot.debian.org/archive/debian/20230611T000000Z/pool/main/f/flight-of-the-amazon-queen/{DEB}",
)

_DATA: Final = "usr/share/scummvm/flight-of-the-amazon-queen/queen.1c"
_COPYRIGHT: Final = "usr/share/doc/flight-of-the-amazon-queen/copyright"
_TABLE_AT: Final = 13  # of the game's data: a count, then so many entries
_ENTRY: Final = struct.Struct(">12sBII")  # name, bundle, offset, size


class FetchError(Exception):
    """What was fetched is not what was asked for. The message says what to do."""


def members(archive: IO[bytes]) -> Iterator[tuple[str, int]]:
    """Name and size of each member of an `ar` archive, which is what a `.deb` is. The file then stands at its first byte.

    Raises:
        FetchError: it is not such an archive, or is cut off.
    """
    if archive.read(8) != b"!<arch>\n":
        raise FetchError("this is no Debian package")
    while header := archive.read(60):
        if len(header) < 60 or not header.endswith(b"`\n"):
            raise FetchError("the package is cut off or damaged")
        begin, size = archive.tell(), int(header[48:58])
        yield header[:16].decode("ascii").rstrip(" /"), size
        archive.seek(begin + size + size % 2)


def unpack(deb: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """The files of these names that a Debian package installs.

    Raises:
        FetchError: it is no such package, or has none of a name.
    """
    with deb.open("rb") as archive:
        data = next((archive.read(size) for name, size in members(archive) if name.startswith("data.tar")), None)
    if data is None:
        raise FetchError(f"{deb} holds no data.tar: it is no Debian package")
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:*") as opened:
        for member in opened:
            name = member.name.removeprefix("./")
            content = opened.extractfile(member) if name in names and member.isfile() else None
            if content is not None:
                found[name] = content.read()
    if missing := [name for name in names if name not in found]:
        raise FetchError(f"{deb} does not hold {', '.join(missing)}: it is another package, or another version of it")
    return found


def table(data: bytes) -> dict[str, bytes]:
    """The files inside the game's data, by name.

    Raises:
        FetchError: an entry points beyond the data.
    """
    (count,) = struct.unpack_from(">H", data, _TABLE_AT)
    found = {}
    for n in range(count):
        name, _, offset, size = _ENTRY.unpack_from(data, _TABLE_AT + 2 + n * _ENTRY.size)
        if offset + size > len(data):
            raise FetchError(f"the game's data is cut off: {name!r} lies beyond its end")
        found[name.rstrip(b"\0").decode("ascii")] = data[offset : offset + size]
    return found


def cut(deb: Path, wanted: list[str], folder: Path) -> int:
    """Write the clips `wanted`, paths that end in `NAME.mp3`, below `folder`; returns how many.

    Raises:
        FetchError: the package lacks one.
    """
    content = unpack(deb, (_DATA, _COPYRIGHT))
    clips = table(content[_DATA])
    for path in wanted:
        name = Path(path).stem + ".SB"
        if name not in clips:
            raise FetchError(f"{deb} has no clip {name}")
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(target, clips[name])
    _write(folder / "COPYRIGHT", content[_COPYRIGHT])
    return len(wanted)


def _write(path: Path, data: bytes) -> None:
    """All of it or nothing."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    os.replace(part, path)


def check(deb: Path) -> None:
    """Whether it is the very package.

    Raises:
        FetchError: it is not.
    """
    with deb.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise FetchError(f"{deb} is not the package that this recipe knows: its SHA-256 is {found}, not {SHA256}")


def download(target: Path, urls: tuple[str, ...] = URLS) -> None:
    """Fetch the package from the first address that has it.

    Raises:
        FetchError: none has.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part, refusals = target.with_name(target.name + ".part"), []
    for url in urls:
        try:
            with urllib.request.urlopen(url, timeout=60) as answer, part.open("wb") as file:  # noqa: S310  # fixed addresses
                shutil.copyfileobj(answer, file)
            check(part)
        except (OSError, urllib.error.URLError, FetchError) as error:
            refusals.append(f"{url}: {error}")
            part.unlink(missing_ok=True)
            continue
        os.replace(part, target)
        return
    told = "\n  ".join(refusals)
    raise FetchError(
        f"the package could not be fetched:\n  {told}\nFetch {DEB} by other means, as with "
        f"`apt-get download flight-of-the-amazon-queen`, and name the file: --deb {DEB}"
    )


def listed(rows: Path) -> list[str]:
    """The paths of the clips in a manifest."""
    with rows.open(encoding="utf-8") as file:
        return [json.loads(line)["audio_filepath"] for line in file]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("data"), help="folder for the clips; default: data")
    parser.add_argument("--deb", type=Path, help=f"{DEB}, if it is at hand; else it is fetched into the folder")
    options = parser.parse_args(arguments)
    wanted = listed(HERE / "queen.jsonl")
    missing = [path for path in wanted if not (options.output / path).is_file()]
    if not missing:
        print(f"all {len(wanted)} clips are in {options.output}")
        return
    try:
        deb = options.deb or options.output / DEB
        if not deb.exists() and options.deb is None:
            print(f"fetching {DEB}, {SIZE / 1e6:.0f} MB")
            download(deb)
        check(deb)
        print(f"{cut(deb, missing, options.output)} clips written to {options.output}")
    except (FetchError, OSError, tarfile.TarError, lzma.LZMAError) as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
