"""What a checkpoint or config holds, without building it: nothing it names is looked up to be run, and nothing it lacks stops it.

A model whose plugins are absent can be read like any other.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal

from attrs import field, frozen

from sonant import config, registry, sources
from sonant import folder as folders
from sonant.errors import CheckpointError
from sonant.layout import CONFIG_SUFFIXES, FOLDER_WEIGHTS, HF_CONFIG, LICENSE_FILES, NEMO_CONFIG, NEMO_WEIGHTS, PROVENANCE
from sonant.provenance import Provenance
from sonant.spec import canonical

Form = Literal["Sonant folder", "NeMo checkpoint", "Hugging Face model", "config", "safetensors file"]

_WORDS = {"F": "float", "BF": "bfloat", "I": "int", "U": "uint", "C": "complex"}


@frozen
class Stored:
    """A tensor as a file describes it; its numbers are not read."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int

    @property
    def numel(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@frozen
class Named:
    """A component that a section of the config names, and whether this machine has it.

    `source` is the distribution that the file says it was saved with, `status` what is installed here.
    """

    section: str
    name: str
    source: str
    status: str


@frozen(kw_only=True)
class Inspection:
    """Everything a checkpoint or config tells about itself."""

    path: Path
    form: Form
    bytes: int
    config: Mapping[str, Any] = field(factory=dict, repr=False)
    components: tuple[Named, ...] = ()
    tensors: tuple[Stored, ...] = field(default=(), repr=False)
    files: Mapping[str, int] = field(factory=dict)
    saved_by: str = ""
    license: str = ""

    @property
    def numbers(self) -> int:
        """How many there are in all tensors together."""
        return sum(tensor.numel for tensor in self.tensors)


def inspect(source: str | Path, *, revision: str | None = None, registry: str | Path | None = None) -> Inspection:
    """Read what `source` (anything `sonant.load` takes, or a safetensors file) says of itself. No code is run or imported for it.

    Raises:
        UnknownName, DownloadError: there is no such model, or it cannot be fetched.
        CheckpointError, ConfigError: it is damaged or unsafe, beyond what can be read past.
    """
    path, card = sources.find(source, revision=revision, registry=registry)
    licensed = (card.license if card is not None else None) or ""
    if path.suffix == ".safetensors":
        return Inspection(path=path, form="safetensors file", bytes=path.stat().st_size, tensors=_safetensors(path))
    if path.suffix in CONFIG_SUFFIXES:
        data = config.load_yaml(path)
        folders.check_extent(data, str(path))
        return Inspection(path=path, form="config", bytes=path.stat().st_size, config=data, components=_components(data, {}))
    if path.is_dir() and not (path / NEMO_CONFIG).exists():
        return _huggingface(path, licensed) if folders.is_huggingface(path) else _folder(path, licensed)
    return _nemo(path, licensed)


def _folder(path: Path, licensed: str) -> Inspection:
    data = folders.read_config(path)
    origin = Provenance.read(data.pop(PROVENANCE, None))
    weights = path / FOLDER_WEIGHTS
    files = _files(path)
    return Inspection(
        path=path,
        form="Sonant folder",
        bytes=sum(files.values()),
        config=data,
        components=_components(data, origin.distributions),
        tensors=_safetensors(weights) if weights.exists() else (),
        files=files,
        saved_by=f"sonant {origin.version}" if origin.version else "",
        license=licensed or origin.license or folders.read_license(path),
    )


def _files(path: Path) -> dict[str, int]:
    return {f.relative_to(path).as_posix(): f.stat().st_size for f in sorted(path.rglob("*")) if f.is_file()}


def _huggingface(path: Path, licensed: str) -> Inspection:
    from sonant.huggingface.folder import HuggingFaceFolder

    folder = HuggingFaceFolder(path)
    data, files = folder.json(HF_CONFIG), _files(path)
    version = data.get("transformers_version")
    return Inspection(
        path=path,
        form="Hugging Face model",
        bytes=sum(files.values()),
        config=data,
        components=tuple(_architectures(data)),
        tensors=tuple(stored for file in folder.weight_files() for stored in _safetensors(file)),
        files=files,
        saved_by=f"transformers {version}" if isinstance(version, str) else "",
        license=licensed or folders.read_license(path),
    )


def _architectures(document: Mapping[str, Any]) -> Iterator[Named]:
    """The classes and types that a config of transformers names, and which installed components stand for them."""
    named = document.get("architectures")
    if isinstance(named, list) and named:
        yield Named("architecture", str(named[0]), "", _stand_ins(str(named[0]), "huggingface"))
    for key, section in document.items():
        if isinstance(section, dict) and isinstance(section.get("model_type"), str):
            yield Named(key, section["model_type"], "", _stand_ins(section["model_type"], "huggingface"))


def _stand_ins(target: str, form: Literal["nemo", "huggingface"]) -> str:
    found = [r for r in registry.current() if target in r.spec.stands_for(form)]
    labels = " and ".join(f"{r.spec.kind} {r.spec.name} ({r.plugin.label})" for r in found)
    return f"installed: {labels}" if labels else "no component of its own"


def _components(data: Mapping[str, Any], saved: Mapping[str, str]) -> tuple[Named, ...]:
    """What the sections of a config of ours name. A section's key is mostly its kind; a task may have told otherwise."""
    found = []
    kinds = _kinds(data.get("task"))
    for key, section in data.items():
        name = section if isinstance(section, str) else section.get("name") if isinstance(section, dict) else None
        if isinstance(name, str) and key not in config.TRAINING_SECTIONS:
            found.append(Named(key, name, saved.get(key, ""), _status(kinds.get(key, key), name, saved.get(key, ""))))
    return tuple(found)


def _kinds(task: Any) -> dict[str, str]:
    name = task.get("name") if isinstance(task, dict) else task
    specs = (r.spec for r in registry.current() if r.spec.kind == "task" and r.spec.name == name)
    return {part.key: part.kind for spec in specs for part in spec.parts}


def _status(kind: str, name: str, saved: str) -> str:
    claims = [r.plugin.label for r in registry.current() if (r.spec.kind, r.spec.name) == (kind, canonical(name))]
    if not claims:
        return "not installed"
    return f"installed{', another version' if saved and saved not in claims else ''}: {' and '.join(claims)}"


def _nemo(path: Path, licensed: str) -> Inspection:
    from sonant.nemo.archive import NemoArchive

    with NemoArchive(path) as archive:
        data, files = archive.config(), archive.sizes()
        with archive.open(NEMO_WEIGHTS) as stream:
            tensors = _torch(stream, str(path))
        named = next((name for name in LICENSE_FILES if name in files), None)
        if named is not None and not licensed:
            with archive.open(named) as stream:
                licensed = folders.license_line(stream)
    return Inspection(
        path=path,
        form="NeMo checkpoint",
        bytes=sum(files.values()) if path.is_dir() else path.stat().st_size,
        config=data,
        components=tuple(_targets(data)),
        tensors=tensors,
        files=files,
        saved_by=f"NeMo {data['nemo_version']}" if isinstance(data.get("nemo_version"), str) else "",
        license=licensed,
    )


def _targets(document: Mapping[str, Any]) -> Iterator[Named]:
    """The classes that NeMo's config names, and which installed components stand for them."""
    named = {"task": document.get("target")} | {
        key: section.get("_target_") for key, section in document.items() if isinstance(section, dict)
    }
    for key, target in named.items():
        if isinstance(target, str):
            yield Named(key, target, "", _stand_ins(target, "nemo"))


def _safetensors(path: Path) -> tuple[Stored, ...]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in sorted(file.keys())}
            described = {name: (tuple(s.get_shape()), str(s.get_dtype())) for name, s in slices.items()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"cannot read the weights {path}: {error}") from error
    return tuple(
        Stored(name, shape, _type(dtype), math.prod(shape) * _bits(dtype) // 8) for name, (shape, dtype) in described.items()
    )


def _type(dtype: str) -> str:
    """`F32`, as safetensors writes it, as `float32`."""
    word, bits, rest = re.fullmatch(r"([A-Z]+)(\d*)(.*)", dtype).groups()  # type: ignore[union-attr]  # it matches any of its types
    return f"{_WORDS.get(word, word.lower())}{bits}{rest.lower()}"


def _bits(dtype: str) -> int:
    found = re.search(r"\d+", dtype)
    return int(found[0]) if found else 8  # BOOL


def _torch(stream: IO[bytes], origin: str) -> tuple[Stored, ...]:
    from sonant import weights

    state = weights.read_outline(stream, origin)
    return tuple(
        Stored(name, tuple(t.shape), str(t.dtype).removeprefix("torch."), t.numel() * t.element_size())
        for name, t in state.items()
    )
