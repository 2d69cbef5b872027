"""Opening and saving models: one function each, whatever the model is called and whatever form it has."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import yaml
from attrs import evolve

from sonant import config, runtime, sources, weights
from sonant import folder as folders
from sonant.build import Blueprint, assemble
from sonant.config import ModelConfig
from sonant.errors import CheckpointError, ConfigError, SonantError, UnknownName
from sonant.files import Files, check_member_name
from sonant.huggingface.convert import read_huggingface, write_huggingface
from sonant.layout import CONFIG_SUFFIXES, FOLDER_CONFIG, FOLDER_WEIGHTS, HF_WEIGHTS, NEMO_CONFIG, PROVENANCE
from sonant.nemo.archive import NemoArchive, write_archive
from sonant.nemo.convert import read_nemo, write_nemo
from sonant.provenance import Provenance

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)

Form = Literal["auto", "sonant", "nemo", "huggingface"]
"""What a model can be saved as."""


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
            folder (ours or Hugging Face's), or a config file (which gives fresh weights).
        device: `auto` (CUDA where there is one), `cpu`, `cuda`, `cuda:1`, …
        dtype: `auto` (bfloat16 on a GPU that has it, else float32), `float32`, `bfloat16`, `float16`, or `stored` (as in the
            file, for saving the model again).
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
    path, card = sources.find(source, revision=revision, registry=registry)
    if overrides and path.suffix not in CONFIG_SUFFIXES:
        raise ConfigError(
            f"{path} is no config file: what a saved model is made of cannot be overridden ({', '.join(overrides)})"
        )
    if path.is_dir():
        model = _opener(path)(path)
    elif path.suffix in CONFIG_SUFFIXES:
        data = config.resolve_user_file(path, overrides)
        with config.located(path):
            filled = config.fill_model(data)
        config.warn_of_deprecated(filled)
        model = assemble(filled, Files.beside(path.resolve().parent), source=str(path))
        log.warning("%s is a config: the model has fresh, untrained weights", path)
    else:
        model = _load_nemo(path)
    if card is not None and card.license:
        _license(model, card.license)
    return runtime.place(model.eval(), device, dtype)


def _opener(folder: Path) -> Callable[[Path], nn.Module]:
    """What opens a folder, by the config that lies in it."""
    if (folder / NEMO_CONFIG).exists():
        return _load_nemo
    return _load_huggingface if folders.is_huggingface(folder) else _load_folder


def _license(model: nn.Module, name: str) -> None:
    blueprint: Blueprint = model.blueprint  # type: ignore[assignment]
    model.blueprint = evolve(blueprint, license=name)  # type: ignore[assignment]


def _load_nemo(path: Path) -> nn.Module:
    with NemoArchive(path) as archive:
        found = read_nemo(archive)
    return _filled(found.config, found.files, lambda: found.state, path, found.notes)


def _load_huggingface(path: Path) -> nn.Module:
    found = read_huggingface(path)
    model = _filled(found.config, found.files, lambda: found.state, path, found.notes)
    _license(model, folders.read_license(path))
    return model


def _filled(
    filled: ModelConfig, files: Files, read: Callable[[], weights.State], path: Path, notes: tuple[str, ...] = ()
) -> nn.Module:
    """The model of a config with the tensors that `read` gives: built in outline, or for real where a part needs that."""
    try:
        model = _assembled(filled, files, path, notes, outline=True)
        weights.load_into(model, read(), str(path))
        absent = weights.without_values(model)
    except CheckpointError as error:
        if not weights.needs_values(error):
            raise
        absent = ["what its constructor computes with"]
    if absent:
        log.info("%s is built with memory of its own: its weights do not hold %s", path, ", ".join(absent))
        model = _assembled(filled, files, path, notes, outline=False)
        weights.load_into(model, read(), str(path))
    return model


def _assembled(filled: ModelConfig, files: Files, path: Path, notes: tuple[str, ...], *, outline: bool) -> nn.Module:
    try:
        with weights.outline() if outline else nullcontext():
            return assemble(filled, files, source=str(path), notes=notes)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except SonantError:
        raise
    except (RuntimeError, OverflowError, MemoryError) as error:  # sizes that no machine has
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"{path}: its config cannot be built: {reason}") from error


def _load_folder(folder: Path) -> nn.Module:
    data = folders.read_config(folder)
    origin = Provenance.read(data.pop(PROVENANCE, None))
    with origin.explaining(str(folder)):
        try:
            filled = config.fill_model(data)
        except UnknownName as error:
            raise UnknownName(f"{folder}: {error}") from error
        except (ConfigError, RecursionError) as error:
            raise CheckpointError(f"{folder / FOLDER_CONFIG}: {error}") from error
        model = _filled(filled, Files.inside(folder), lambda: weights.read_safetensors(folder / FOLDER_WEIGHTS), folder)
    for change in origin.changed:
        log.info("%s was saved with %s", folder, change)
    _license(model, origin.license or folders.read_license(folder))
    return model


def save(model: nn.Module, target: str | Path, *, form: Form = "auto") -> Path:
    """Write a model.

    Args:
        model: one that Sonant built or opened.
        target: the file or folder to write.
        form: `sonant`, a folder (filled config, safetensors, files); `nemo`, a `.nemo` file; `huggingface`, a folder that
            transformers opens. `auto` takes `nemo` where `target` ends in `.nemo`, else `sonant`.

    Raises:
        CheckpointError: the model was not built by Sonant, or a part of it has no counterpart in that form.
        ConfigError: there is no such form, or it is a folder and `target` ends in `.nemo`.
    """
    blueprint = getattr(model, "blueprint", None)
    if not isinstance(blueprint, Blueprint):
        raise CheckpointError(f"{type(model).__name__} has no blueprint: only models built or opened by Sonant can be saved")
    path = Path(target)
    if form not in get_args(Form):
        raise ConfigError(f"form={form!r}: there are {', '.join(get_args(Form))}")
    if path.suffix == ".nemo" and form in ("sonant", "huggingface"):
        raise ConfigError(f"{path} ends in .nemo, and the form {form} is a folder: name a folder")
    if form == "auto":
        form = "nemo" if path.suffix == ".nemo" else "sonant"
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "nemo":
        write_archive(path, *write_nemo(blueprint, model))
        return path
    if form == "huggingface":
        texts, state = write_huggingface(blueprint, model)
        path.mkdir(exist_ok=True)
        weights.write_safetensors(state, path / HF_WEIGHTS)
        for name, text in texts.items():
            (path / name).write_text(text, "utf-8")
        return path
    path.mkdir(exist_ok=True)
    _write_folder(blueprint, model, path)
    return path


def _write_folder(blueprint: Blueprint, model: nn.Module, path: Path) -> None:
    names = _names_inside(blueprint.files)
    for name, content in blueprint.files.items():
        file = path / names[name]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    weights.write_safetensors(model.state_dict(), path / FOLDER_WEIGHTS)
    document = {PROVENANCE: Provenance.of(blueprint).to_dict()} | _renamed(blueprint.config.to_dict(runtime=False), names)
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    (path / FOLDER_CONFIG).write_text(text, "utf-8")


def _names_inside(files: Iterable[str]) -> dict[str, str]:
    """What each file is called in a model folder: a user's own config may have named it anywhere."""
    names: dict[str, str] = {}
    for name in files:
        try:
            check_member_name(name)
            inside = name
        except CheckpointError:
            inside = Path(name).name
        while inside in (FOLDER_CONFIG, FOLDER_WEIGHTS, *names.values()):
            inside = f"_{inside}"
        names[name] = inside
    return names


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {k: _renamed(v, names) for k, v in value.items()}
    if isinstance(value, list):
        return [_renamed(v, names) for v in value]
    return names.get(value, value) if isinstance(value, str) else value
