"""Reading and writing tensors: safetensors, or `torch.load(weights_only=True)`, and nothing else."""

from __future__ import annotations

import mmap
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from sonant.errors import CheckpointError

State = dict[str, torch.Tensor]


def read_safetensors(path: Path) -> State:
    """The tensors of a safetensors file, mapped from disk rather than copied.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"cannot read the weights {path}: {error}") from error


def write_safetensors(state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write tensors atomically: the file appears whole or not at all."""
    from safetensors.torch import save_file

    apart: State = {}
    seen = set()
    for name, tensor in state.items():
        plain = tensor.detach().cpu().contiguous()
        storage = plain.untyped_storage().data_ptr()
        apart[name] = plain.clone() if storage in seen else plain  # safetensors refuses tensors that share memory
        seen.add(storage)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        whole = Path(folder) / path.name
        save_file(apart, whole, metadata={"format": "pt"})
        usual = Path(folder) / "usual"
        usual.touch()
        shutil.copymode(usual, whole)  # safetensors makes a file that only its owner can read
        os.replace(whole, path)


def read_torch(stream: IO[bytes], origin: str, mapped: IO[bytes] | None = None, start: int = 0) -> State:
    """A `torch.save`d flat dict of tensors. Only tensors are unpickled; code in the file never runs.

    Args:
        stream: the checkpoint, seekable.
        origin: what to call it in errors.
        mapped: a file on disk that holds the checkpoint's bytes from offset `start`. Where torch tells where each tensor
            lies, they are mapped copy-on-write instead of read: opening takes no time and no memory.
        start: see `mapped`.

    Raises:
        CheckpointError: the content is not a flat dict of tensors, is damaged, or holds code.
    """
    outline = read_outline(stream, origin)
    try:
        state = _map(outline, mapped, start) if mapped is not None and _is_mappable(stream) else None
        if state is None:
            stream.seek(0)
            state = torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"cannot read the weights of {origin}: {_reason(error)}") from error
    return dict(state)


def read_outline(stream: IO[bytes], origin: str) -> State:
    """The tensors of a `torch.save`d flat dict on the `meta` device: names, shapes and types, no numbers.

    Raises:
        CheckpointError: as `read_torch`.
    """
    try:
        outline = torch.load(stream, map_location="meta", weights_only=True)
    except Exception as error:  # torch raises a dozen types for damaged and for hostile input alike
        raise CheckpointError(f"cannot read the weights of {origin}: {_reason(error)}") from error
    _check_flat(outline, origin)
    return dict(outline)


def _is_mappable(stream: IO[bytes]) -> bool:
    """Whether tensors lie in the file as they do in memory: in a zip, neither compressed nor in the other byte order."""
    stream.seek(0)
    if not zipfile.is_zipfile(stream):
        return False
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        orders = {archive.read(m).decode() for m in members if m.filename.endswith("/byteorder")}
        return orders <= {sys.byteorder} and all(m.compress_type == zipfile.ZIP_STORED for m in members)


def _check_flat(state: object, origin: str) -> None:
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in state.items()):
        raise CheckpointError(f"the weights of {origin} are not a flat dictionary of tensors")


def _reason(error: Exception) -> str:
    text = str(error)
    if "weights_only" in text.lower() or "unsupported global" in text.lower():
        return "it holds code or objects other than tensors; nothing was run"
    return text.splitlines()[0] if text else type(error).__name__


def _map(outline: State, file: IO[bytes], start: int) -> State | None:
    """The tensors of `outline` as views of `file`'s pages, or None where torch does not tell their offsets."""
    offsets: dict[str, Any] = {
        name: getattr(tensor.untyped_storage(), "_checkpoint_offset", None) for name, tensor in outline.items()
    }
    if any(offset is None for offset in offsets.values()):
        return None  # torch before 2.13, or its format of before 1.6
    state = {}
    for name, tensor in outline.items():
        size = tensor.untyped_storage().nbytes()
        if size == 0:
            state[name] = torch.empty(tensor.shape, dtype=tensor.dtype)
            continue
        # A mapping for each tensor, so that one that is cast or moved gives its pages back at once.
        aligned, rest = divmod(start + offsets[name], mmap.ALLOCATIONGRANULARITY)
        page = aligned * mmap.ALLOCATIONGRANULARITY
        pages = mmap.mmap(file.fileno(), rest + size, access=mmap.ACCESS_COPY, offset=page)
        flat = torch.frombuffer(pages, dtype=tensor.dtype, count=size // tensor.element_size(), offset=rest)
        state[name] = flat.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
    return state


def _list(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


class _SkipInitialization(TorchFunctionMode):
    """Leaves tensors as they are where `torch.nn.init`, or a random fill, would set them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init" or func in (torch.Tensor.normal_, torch.Tensor.uniform_):
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


@contextmanager
def outline() -> Iterator[None]:
    """Modules built inside have shapes and no memory (device `meta`), for `load_into` to fill.

    Initialization is skipped too: on `meta` it would do nothing and import half of torch's compiler to do so.
    """
    with torch.device("meta"), _SkipInitialization():
        yield


def load_into(model: nn.Module, state: Mapping[str, torch.Tensor], origin: str) -> None:
    """Put `state` into `model`, every tensor of both sides accounted for.

    The model may be on the `meta` device: tensors are assigned, not copied.

    Raises:
        CheckpointError: tensors are missing, left over, misshapen, or integers for floats; names which.
    """
    wanted = model.state_dict()
    missing = sorted(wanted.keys() - state.keys())
    extra = sorted(state.keys() - wanted.keys())
    misshapen = [
        f"{k} is {tuple(state[k].shape)}, the config asks for {tuple(wanted[k].shape)}"
        for k in sorted(wanted.keys() & state.keys())
        if state[k].shape != wanted[k].shape
    ]
    unlike = [
        f"{k} is {state[k].dtype}, the config asks for {wanted[k].dtype}"
        for k in sorted(wanted.keys() & state.keys())
        if state[k].is_floating_point() != wanted[k].is_floating_point()
    ]
    faults = []
    if missing:
        faults.append(f"{len(missing)} tensors missing: {_list(missing)}")
    if extra:
        faults.append(f"{len(extra)} tensors left over: {_list(extra)}")
    if misshapen:
        faults.append(f"{len(misshapen)} tensors misshapen: {_list(misshapen)}")
    if unlike:
        faults.append(f"{len(unlike)} tensors of another kind: {_list(unlike)}")
    if faults:
        raise CheckpointError(f"the weights of {origin} do not fit its config: {'; '.join(faults)}")
    model.load_state_dict(dict(state), strict=True, assign=True)


def without_values(model: nn.Module) -> list[str]:
    """Tensors of a model built inside `outline` that are not in its state dict: buffers not persistent, and attributes."""
    buffers = [name for name, buffer in model.named_buffers() if buffer.is_meta]
    plain = [
        f"{path}.{name}".lstrip(".")
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, torch.Tensor) and value.is_meta
    ]
    return sorted(buffers + plain)


def needs_values(error: BaseException) -> bool:
    """Whether building inside `outline` failed because numbers were asked for, as `tolist` does, where there are none."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__
    return isinstance(causes[-1], RuntimeError) and "meta" in str(causes[-1])
