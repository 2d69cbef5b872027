"""From a NeMo checkpoint to a Sonant config and state, and back, by the tables that plugins contribute."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

import torch
from attrs import frozen
from torch import nn

from sonant import config as configs
from sonant import registry
from sonant.build import Blueprint
from sonant.config import ModelConfig
from sonant.errors import CheckpointError, ConfigError, SonantError
from sonant.files import Files
from sonant.nemo.archive import NemoArchive, artifact_name
from sonant.nemo.mapping import ComponentMapping, NemoSection, Placed, TaskMapping
from sonant.registry import Registered
from sonant.weights import State


@frozen
class FromNemo:
    """A converted checkpoint: a config to assemble, the files it names, tensors for `load_into`, and the report."""

    config: ModelConfig
    files: Files
    state: State
    notes: tuple[str, ...]


def _mapping(component: Registered) -> Any:
    if component.spec.nemo is None:
        raise CheckpointError(f"{configs.label(component)} has no counterpart in NeMo")
    return configs.load_target(component.spec.nemo.mapping, configs.label(component))


class Reader:
    """Given to a task's mapping: reads sections by the tables of the components they name."""

    def __init__(self, archive: NemoArchive, target: str = "") -> None:
        self.archive = archive
        self.target = target
        self.notes: list[str] = []
        self.files: dict[str, bytes] = {}

    def component(self, kind: str, section: NemoSection, prefix: str, target: str | None = None) -> Placed:
        """Read one section. `target` is given where NeMo names the component otherwise than by `_target_`.

        Raises:
            CheckpointError: no installed plugin stands for the target, or the section has keys its table does not know.
        """
        name = target if target is not None else section.take("_target_")
        component = registry.current().stands_for(kind, str(name))
        if component is None:
            known = sorted({t for r in registry.current() if r.spec.kind == kind and r.spec.nemo for t in r.spec.nemo.targets})
            raise CheckpointError(
                f"{self.archive.path}: {section.path or kind} is {name!r}, and no installed plugin provides one that stands "
                f"for it (known: {', '.join(known) or 'none'}). Nothing was imported or run."
            )
        mapping: ComponentMapping = _mapping(component)
        ours = mapping.read(section)
        self.finish(section)
        return Placed({"name": component.spec.name} | ours, prefix, mapping)

    def finish(self, section: NemoSection) -> None:
        """Check that nothing is left of a section and note what was dropped."""
        self.notes += [f"dropped {key}" for key in section.finish()]

    def artifact(self, value: str) -> str:
        """Take the file that a config value `nemo:<hex>_<name>` names; returns the name it has with us.

        Raises:
            CheckpointError: the archive does not hold it.
        """
        member = value.removeprefix("nemo:")
        if member not in self.archive.sizes():
            raise CheckpointError(f"{self.archive.path}: the config names the file {value!r}, which the archive does not hold")
        plain = member.split("_", 1)[1] if len(member.split("_", 1)[0]) == 32 and "_" in member else member
        content = self.archive.read(member)
        stem, taken = plain, 1
        while self.files.get(plain, content) != content:
            taken += 1
            plain = f"{taken}_{stem}"
        self.files[plain] = content
        return plain


class Writer:
    """Given to a task's mapping for writing: the counterpart of `Reader`."""

    def __init__(self, blueprint: Blueprint, model: nn.Module) -> None:
        self.blueprint = blueprint
        self.model = model
        self.files: dict[str, bytes] = {}

    def parts(self) -> dict[str, Any]:
        """The model's parts by section, for the sizes that NeMo's config repeats."""
        return {key: getattr(self.model, key) for key in self.blueprint.config.parts}

    def component(self, key: str, prefix: str, **sizes: Any) -> tuple[dict[str, Any], Placed]:
        """Write the part `key`; returns NeMo's section and its placement.

        Raises:
            CheckpointError: the component has no counterpart in NeMo.
        """
        section = self.blueprint.config.parts[key]
        mapping: ComponentMapping = _mapping(section.component)
        return mapping.write(section.config, **sizes), Placed(section.to_dict(), prefix, mapping)

    def artifact(self, name: str) -> str:
        """Store the file `name` of the model; returns the config value that NeMo finds it by."""
        return self.store(name, self.blueprint.files[name])

    def store(self, name: str, content: bytes) -> str:
        """Store `content` as a file called `name`; returns the config value that NeMo finds it by."""
        stored = artifact_name(content, PurePosixPath(name).name)
        self.files[stored] = content
        return f"nemo:{stored}"


def read_nemo(archive: NemoArchive) -> FromNemo:
    """Convert an opened checkpoint.

    Raises:
        CheckpointError: anything in it that no table speaks of, by name.
    """
    document = NemoSection(archive.config(), "")
    target = str(document.take("target", ""))
    component = registry.current().stands_for("task", target)
    if component is None:
        raise CheckpointError(
            f"{archive.path}: its class is {target!r}, and no installed plugin stands for it. Nothing was imported or run. "
            "`sonant components task` lists the tasks that are installed"
        )
    mapping: TaskMapping = _mapping(component)
    reader = Reader(archive, target)
    task, parts = _read_document(mapping, document, reader)
    data = {"task": {"name": component.spec.name} | task} | {k: dict(p.section) for k, p in parts.items()}
    try:
        config = configs.fill_model(data)
    except ConfigError as error:
        raise CheckpointError(f"{archive.path}: {error}") from error
    state = _read_state(archive.state(), parts, reader)
    return FromNemo(config, Files.of(reader.files, str(archive.path)), state, tuple(reader.notes))


def _read_document(mapping: TaskMapping, document: NemoSection, reader: Reader) -> tuple[dict[str, Any], dict[str, Placed]]:
    try:
        found = mapping.read(document, reader)
        reader.finish(document)
    except CheckpointError as error:
        if str(reader.archive.path) in str(error):
            raise
        raise CheckpointError(f"{reader.archive.path}: {error}") from error
    except SonantError:
        raise
    except (AttributeError, TypeError, ValueError, LookupError) as error:  # a table met a list where it knows a number
        raise CheckpointError(f"{reader.archive.path}: its config is not of the form that NeMo writes ({error})") from error
    return found


def _read_state(theirs: State, parts: Mapping[str, Placed], reader: Reader) -> State:
    ours: State = {}
    unknown = []
    for name, tensor in theirs.items():
        found = _to_ours(name, tensor, parts)
        if found is not None:
            ours[found[0]] = found[1]
        elif _is_ignored(name, parts):
            reader.notes.append(f"dropped tensor {name}")
        else:
            unknown.append(name)
    if unknown:
        shown = ", ".join(unknown[:4]) + (f" and {len(unknown) - 4} more" if len(unknown) > 4 else "")
        raise CheckpointError(f"{reader.archive.path}: {len(unknown)} tensors left over that no table knows: {shown}")
    return ours


def _to_ours(name: str, tensor: torch.Tensor, parts: Mapping[str, Placed]) -> tuple[str, torch.Tensor] | None:
    for key, part in parts.items():
        if name.startswith(part.prefix):
            for row in part.tensors:
                renamed = row.read(name.removeprefix(part.prefix))
                if renamed is not None:
                    return f"{key}.{renamed}", row.to_ours(tensor)
    return None


def _is_ignored(name: str, parts: Mapping[str, Placed]) -> bool:
    return any(fnmatchcase(name, part.prefix + pattern) for part in parts.values() for pattern in part.mapping.ignored)


def write_nemo(blueprint: Blueprint, model: nn.Module) -> tuple[dict[str, Any], State, dict[str, bytes]]:
    """The document, tensors and files of a `.nemo` file for a model.

    Raises:
        CheckpointError: a component or a tensor has no counterpart in NeMo.
    """
    task = blueprint.config.task
    mapping: TaskMapping = _mapping(task.component)
    writer = Writer(blueprint, model)
    document, parts = mapping.write(blueprint.config, writer)
    theirs: State = {}
    for name, tensor in model.state_dict().items():
        key, _, rest = name.partition(".")
        rows = parts[key].tensors if key in parts else ()
        row = next((r for r in rows if r.write(rest) is not None), None)
        if row is None:
            raise CheckpointError(f"the tensor {name} has no name in NeMo")
        theirs[f"{parts[key].prefix}{row.write(rest)}"] = row.to_theirs(tensor.detach()).cpu().contiguous()
    return document, theirs, writer.files
