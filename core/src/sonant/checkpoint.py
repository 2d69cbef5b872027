"""Opening and saving models: one function each, whatever the model is called and whatever form it has."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sonant import __version__, cards, config, hub, runtime, weights
from sonant.build import Blueprint, assemble
from sonant.errors import CheckpointError, ConfigError, UnknownName
from sonant.files import Files, check_member_name
from sonant.nemo.archive import CONFIG as NEMO_CONFIG
from sonant.nemo.archive import NemoArchive, write_archive
from sonant.nemo.convert import read_nemo, write_nemo

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)

CONFIG_SUFFIXES = (".yaml", ".yml")
FOLDER_CONFIG = hub.FOLDER_CONFIG
FOLDER_WEIGHTS = hub.FOLDER_WEIGHTS


def load(
    source: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    registry: str | Path | None = None,
    overrides: Sequence[str] = (),
) -> Any:
    """Open a model, ready for inference.

    Args:
        source: a model card's name, a Hugging Face repo id (`owner/repo`, or `owner/repo@revision`), a `.nemo` file, a model
            folder, or a config file (which gives fresh weights).
        device: `auto` (CUDA where there is one), `cpu`, `cuda`, `cuda:1`, …
        dtype: `auto` (bfloat16 on a GPU that has it, else float32), `float32`, `bfloat16`, `float16`.
        revision: of a Hugging Face repo; a commit hash pins the content.
        registry: a file of model cards beside the packaged ones.
        overrides: `section.key=value` items, for a config file only.

    Returns:
        The task's model (a `torch.nn.Module` in eval mode) with its verb, e.g. `transcribe`.

    Raises:
        UnknownName: there is no such file or model, or a component it names is not installed.
        CheckpointError: the file is damaged, unsafe, or does not fit its config.
        DownloadError: it could not be fetched.
    """
    path = locate(source, revision=revision, registry=registry)
    if overrides and path.suffix not in CONFIG_SUFFIXES:
        raise ConfigError(f"{path} is no config file: what a saved model is made of cannot be overridden ({', '.join(overrides)})")
    if path.is_dir():
        model = _load_nemo(path) if (path / NEMO_CONFIG).exists() else _load_folder(path)
    elif path.suffix in CONFIG_SUFFIXES:
        data = config.resolve_user_file(path, overrides)
        with config.located(path):
            filled = config.fill_model(data)
        model = assemble(filled, Files.beside(path.resolve().parent), source=str(path))
        log.warning("%s is a config: the model has fresh, untrained weights", path)
    else:
        model = _load_nemo(path)
    return runtime.place(model.eval(), device, dtype)


def locate(source: str | Path, *, revision: str | None = None, registry: str | Path | None = None) -> Path:
    """The local file or folder that `source` means, fetched if need be; see `load`."""
    path = Path(source).expanduser()
    if path.exists():
        return path
    name = str(source)
    if isinstance(source, Path) or path.suffix in (".nemo", *CONFIG_SUFFIXES) or name.startswith((".", "/", "~")):
        raise CheckpointError(f"there is no file or folder {name}")
    name, _, pinned = name.partition("@")
    card = cards.find(name, registry)
    if card is not None:
        return hub.fetch_card(card, pinned or revision)
    if name.count("/") == 1:
        return hub.fetch_repo(name, pinned or revision)
    raise cards.unknown(str(source), registry)


def _load_nemo(path: Path) -> nn.Module:
    with NemoArchive(path) as archive:
        found = read_nemo(archive)
    with weights.outline():
        model = assemble(found.config, found.files, source=str(path), notes=found.notes)
    weights.load_into(model, found.state, str(path))
    return model


def _load_folder(folder: Path) -> nn.Module:
    if not (folder / FOLDER_CONFIG).exists():
        raise CheckpointError(f"{folder} is not a model: it has neither {FOLDER_CONFIG} nor {NEMO_CONFIG}")
    data = config.load_yaml(folder / FOLDER_CONFIG)
    provenance = data.pop("sonant", None) or {}
    _refuse_interpolation(data, str(folder / FOLDER_CONFIG))
    try:
        filled = config.fill_model(data)
    except UnknownName as error:
        saved = ", ".join(sorted(set(provenance.get("distributions", {}).values())))
        raise UnknownName(f"{folder}: {error}" + (f" The model was saved with {saved}." if saved else "")) from error
    except ConfigError as error:
        raise CheckpointError(f"{folder / FOLDER_CONFIG}: {error}") from error
    with weights.outline():
        model = assemble(filled, Files.inside(folder), source=str(folder))
    weights.load_into(model, weights.read_safetensors(folder / FOLDER_WEIGHTS), str(folder))
    return model


def _refuse_interpolation(value: Any, origin: str) -> None:
    """A saved config is filled already: whatever `${` it holds was put there by somebody else."""
    if isinstance(value, dict):
        for item in value.values():
            _refuse_interpolation(item, origin)
    elif isinstance(value, list):
        for item in value:
            _refuse_interpolation(item, origin)
    elif isinstance(value, str) and "${" in value:
        raise CheckpointError(f"{origin}: interpolations such as {value!r} are not resolved in a saved model; refused")


def save(model: nn.Module, target: str | Path) -> Path:
    """Write a model: to a `.nemo` file where `target` ends so, else to a folder (filled config, safetensors, files).

    Raises:
        CheckpointError: the model was not built by Sonant, or a part of it has no counterpart in NeMo.
    """
    blueprint = getattr(model, "blueprint", None)
    if not isinstance(blueprint, Blueprint):
        raise CheckpointError(f"{type(model).__name__} has no blueprint: only models built or opened by Sonant can be saved")
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".nemo":
        document, state, members = write_nemo(blueprint, model)
        write_archive(path, document, state, members)
        return path
    path.mkdir(exist_ok=True)
    for name, content in blueprint.files.items():
        check_member_name(name)
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    weights.write_safetensors(model.state_dict(), path / FOLDER_WEIGHTS)
    text = yaml.safe_dump(_provenance(blueprint) | blueprint.config.to_dict(runtime=False), sort_keys=False, allow_unicode=True)
    (path / FOLDER_CONFIG).write_text(text, "utf-8")
    return path


def _provenance(blueprint: Blueprint) -> dict[str, Any]:
    sections = {"task": blueprint.config.task} | dict(blueprint.config.parts)
    return {"sonant": {"version": __version__, "distributions": {k: s.component.plugin.label for k, s in sections.items()}}}
