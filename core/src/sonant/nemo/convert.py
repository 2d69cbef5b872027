"""From a NeMo checkpoint to a Sonant config and state, and back, by the tables that plugins contribute."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any

import torch
import yaml
from torch import nn

from sonant import config as configs
from sonant import registry
from sonant.build import Blueprint
from sonant.errors import CheckpointError
from sonant.files import Files
from sonant.mapping import ComponentMapping, Converted, Placed, TaskMapping, fill, located, read_state, write_state
from sonant.nemo.archive import NemoArchive, artifact_name
from sonant.nemo.mapping import NemoSection
from sonant.registry import Registered
from sonant.weights import State


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
        self.tensors: State = {}

    def component(self, kind: str, section: NemoSection, prefix: str, target: str | None = None) -> Placed:
        """Read one section. `target` is given where NeMo names the component otherwise than by `_target_`.

        Raises:
            CheckpointError: no installed plugin stands for the target, or the section has keys its table does not know.
        """
        name = target if target is not None else section.take("_target_")
        component = registry.current().stands_for(kind, str(name))
        if component is None:
            known = sorted({t for r in registry.current() if r.spec.kind == kind and r.spec.nemo for t in r.spec.nemo.targets})
            reason = registry.current().refusal(kind, str(name))
            because = f": {reason}" if reason else f" (known: {', '.join(known) or 'none'})"
            raise CheckpointError(
                f"{self.archive.path}: {section.path or kind} is {name!r}, and no installed plugin provides one that stands "
                f"for it{because}. Nothing was imported or run."
            )
        mapping: ComponentMapping = _mapping(component)
        ours = mapping.read(section)
        self.finish(section)
        return Placed({"name": component.spec.name} | ours, prefix, mapping)

    def finish(self, section: NemoSection) -> None:
        """Check that nothing is left of a section and note what was dropped."""
        self.notes += [f"dropped {key}" for key in section.finish()]

    def second(self, name: str) -> NemoSection | None:
        """The config `NAME_config.yaml` of a second model in the archive, None where there is none. The tensors of
        `NAME_weights.ckpt` are read too, with `NAME.` before their names."""
        document, tensors = f"{name}_config.yaml", f"{name}_weights.ckpt"
        if document not in self.archive.sizes() or tensors not in self.archive.sizes():
            return None
        self.tensors |= {f"{name}.{key}": tensor for key, tensor in self.archive.state(tensors).items()}
        return NemoSection(self.archive.config(document), name)

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
        self._second: list[str] = []

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

    def second(self, name: str, document: Mapping[str, Any]) -> None:
        """Store the config of a second model. The tensors that stand below `NAME.` become `NAME_weights.ckpt`."""
        text = yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True)
        self.files[f"{name}_config.yaml"] = text.encode("utf-8")
        self._second.append(name)

    def take_apart(self, state: State) -> State:
        """The tensors of the model itself; those of a second one become a file."""
        for name in self._second:
            theirs = {key: tensor for key, tensor in state.items() if key.startswith(f"{name}.")}
            state = {key: tensor for key, tensor in state.items() if key not in theirs}
            content = BytesIO()
            torch.save({key.removeprefix(f"{name}."): tensor for key, tensor in theirs.items()}, content)
            self.files[f"{name}_weights.ckpt"] = content.getvalue()
        return state

    def artifact(self, name: str) -> str:
        """Store the file `name` of the model; returns the config value that NeMo finds it by."""
        return self.store(name, self.blueprint.files[name])

    def store(self, name: str, content: bytes) -> str:
        """Store `content` as a file called `name`; returns the config value that NeMo finds it by."""
        stored = artifact_name(content, PurePosixPath(name).name)
        self.files[stored] = content
        return f"nemo:{stored}"


def read_nemo(archive: NemoArchive) -> Converted:
    """Convert an opened checkpoint.

    Raises:
        CheckpointError: anything in it that no table speaks of, by name.
    """
    document = NemoSection(archive.config(), "")
    target = str(document.take("target", ""))
    component = registry.current().stands_for("task", target)
    if component is None:
        reason = registry.current().refusal("task", target)
        raise CheckpointError(
            f"{archive.path}: its class is {target!r}, and no installed plugin stands for it{f': {reason}' if reason else ''}. "
            "Nothing was imported or run. `sonant components task` lists the tasks that are installed"
        )
    mapping: TaskMapping = _mapping(component)
    reader = Reader(archive, target)
    with located(str(archive.path), "NeMo"):
        task, parts = mapping.read(document, reader)
        reader.finish(document)
    config = fill(component.spec.name, task, parts, str(archive.path))
    state, ignored = read_state(archive.state() | reader.tensors, parts, str(archive.path))
    notes = (*reader.notes, *(f"dropped tensor {name}" for name in ignored))
    return Converted(config, Files.of(reader.files, str(archive.path)), state, notes)


def write_nemo(blueprint: Blueprint, model: nn.Module) -> tuple[dict[str, Any], State, dict[str, bytes]]:
    """The document, tensors and files of a `.nemo` file for a model.

    Raises:
        CheckpointError: a component or a tensor has no counterpart in NeMo.
    """
    task = blueprint.config.task
    mapping: TaskMapping = _mapping(task.component)
    writer = Writer(blueprint, model)
    document, parts = mapping.write(blueprint.config, writer)
    state = writer.take_apart(write_state(dict(model.state_dict()), parts, "NeMo"))
    return document, state, writer.files
