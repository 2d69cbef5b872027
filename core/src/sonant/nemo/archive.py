"""Opening and writing `.nemo` files: a tar (plain or gzip) or an unpacked folder.

Members are read in place; nothing is unpacked beside them, nothing is executed, and an archive
with names that lead out of it, links or devices is refused as a whole.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import torch
import yaml

from sonant import config as configs
from sonant import weights
from sonant.errors import CheckpointError, ConfigError
from sonant.files import check_inside, check_member_name
from sonant.layout import NEMO_CONFIG as CONFIG
from sonant.layout import NEMO_WEIGHTS as WEIGHTS
from sonant.nemo.interpolation import resolve


class NemoArchive:
    """A `.nemo` checkpoint, open for reading; a context manager.

    Raises:
        CheckpointError: not a tar or folder, truncated, or with members a safe archive does not have.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._stream: IO[bytes] | None = None
        self._tar: tarfile.TarFile | None = None
        self._members: dict[str, tarfile.TarInfo | Path] = {}
        if self.path.is_dir():
            self._members = {file.name: file for file in sorted(self.path.iterdir()) if file.is_file()}
        else:
            try:
                self._open_tar()
            except BaseException:
                self.close()
                raise
        absent = [name for name in (CONFIG, WEIGHTS) if name not in self._members]
        if absent:
            self.close()
            raise CheckpointError(f"{self.path} is not a NeMo checkpoint: it holds no {' and no '.join(absent)}. Is it whole?")

    def _open_tar(self) -> None:
        if self.path.suffix in (".onnx", ".pt2"):
            raise CheckpointError(f"{self.path} is a graph for other runtimes, which is not opened: name the model it came from")
        try:
            self._stream = self.path.open("rb")
            if self._stream.read(2) == b"\x1f\x8b":
                self._stream = _unzipped(self._stream)
            self._stream.seek(0)
            self._tar = tarfile.open(fileobj=self._stream, mode="r:")  # noqa: SIM115 (closed in `close`)
            members = self._tar.getmembers()
        except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, ValueError) as error:
            raise CheckpointError(
                f"{self.path} is not a whole .nemo archive ({error}); if it was downloaded, fetch it again"
            ) from error
        except OSError as error:
            raise CheckpointError(f"cannot open {self.path}: {error.strerror or error}") from error
        for member in members:
            self._add(member)

    def _add(self, member: tarfile.TarInfo) -> None:
        name = member.name.removeprefix("./")
        if member.isdir() and name in ("", "."):
            return
        try:
            check_member_name(name)
        except CheckpointError as error:
            raise CheckpointError(f"{self.path}: {error}") from None
        if not (member.isfile() or member.isdir()) or member.issparse():
            raise CheckpointError(f"{self.path}: the member {member.name!r} is a link, a device or a sparse file; refused")
        if member.isfile():
            self._members[name] = member

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Release the file."""
        for handle in (self._tar, self._stream):
            if handle is not None:
                handle.close()

    def sizes(self) -> dict[str, int]:
        """Every file in the archive and its size in bytes."""
        return {n: m.size if isinstance(m, tarfile.TarInfo) else m.stat().st_size for n, m in self._members.items()}

    def open(self, name: str) -> IO[bytes]:
        """A member, to be read piece by piece.

        Raises:
            CheckpointError: there is none of that name.
        """
        member = self._members.get(name)
        if member is None:
            raise CheckpointError(f"{self.path} has no member {name!r}")
        if isinstance(member, Path):
            check_inside(member, self.path)
            return member.open("rb")
        assert self._tar is not None
        stream = self._tar.extractfile(member)
        assert stream is not None
        return stream

    def read(self, name: str) -> bytes:
        """The content of a small member, such as a tokenizer."""
        with self.open(name) as stream:
            return stream.read()

    def config(self, name: str = CONFIG) -> dict[str, Any]:
        """The model's config, with interpolations inside the document resolved and every other kind refused.

        `name` is that of the member: some archives hold a second model.

        Raises:
            CheckpointError: it is not plain YAML.
        """
        try:
            document = configs.parse_yaml(self.read(name).decode("utf-8"), f"{self.path}:{name}")
            inner = document.get("model")
            model = inner if isinstance(inner, dict) else document
            return _modernize(resolve(model, f"{self.path}:{name}"))
        except RecursionError as error:
            raise CheckpointError(f"{self.path}:{name} is nested too deeply, or in itself") from error
        except (ConfigError, UnicodeDecodeError) as error:
            raise CheckpointError(
                f"{self.path}:{name}: {error}" if isinstance(error, UnicodeDecodeError) else str(error)
            ) from error

    def state(self, name: str = WEIGHTS) -> weights.State:
        """The tensors of a member, mapped from the archive where torch can, else read from it."""
        with self.open(name) as stream:
            member = self._members[name]
            if isinstance(member, Path):
                return weights.read_torch(stream, str(self.path), stream)
            return weights.read_torch(stream, str(self.path), self._stream, member.offset_data)


def _unzipped(stream: IO[bytes]) -> IO[bytes]:
    """A gzip stream as a seekable temporary file that vanishes when closed."""
    stream.seek(0)
    plain = tempfile.TemporaryFile()  # noqa: SIM115 (the archive closes it)
    try:
        with stream, gzip.open(stream) as source:
            shutil.copyfileobj(source, plain, 2**20)
    except BaseException:
        plain.close()
        raise
    return plain


def _modernize(value: Any) -> Any:
    """The form of before 2021, `cls: …, params: {…}`, as `_target_` with the parameters beside it."""
    if isinstance(value, list):
        return [_modernize(v) for v in value]
    if not isinstance(value, dict):
        return value
    plain = {k: _modernize(v) for k, v in value.items()}
    if isinstance(plain.get("params"), dict) and ("cls" in plain or "target" in plain):
        plain["_target_"] = plain.pop("cls", None) or plain.pop("target")
        plain |= plain.pop("params")
    return plain


def write_archive(path: Path, config: Mapping[str, Any], state: weights.State, files: Mapping[str, bytes]) -> None:
    """Write a `.nemo` file atomically. `files` are stored under the names that `config` uses after `nemo:`."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        checkpoint, whole = Path(folder) / WEIGHTS, Path(folder) / path.name
        torch.save(state, checkpoint)
        with tarfile.open(whole, "w:", format=tarfile.GNU_FORMAT) as tar:
            text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
            for name, content in {CONFIG: text.encode("utf-8"), **files}.items():
                entry = tarfile.TarInfo(f"./{name}")
                entry.size, entry.mode = len(content), 0o644
                tar.addfile(entry, io.BytesIO(content))
            tar.add(checkpoint, arcname=f"./{WEIGHTS}", filter=_anonymous)
        os.replace(whole, path)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


def artifact_name(content: bytes, name: str) -> str:
    """NeMo's naming of a stored file: 32 hex digits, an underscore, the file's own name. Equal content, equal name."""
    return f"{hashlib.md5(content, usedforsecurity=False).hexdigest()}_{name}"
