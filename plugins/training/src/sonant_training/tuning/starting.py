"""The model a run begins with: fresh, or a checkpoint's with what the run's config changes about it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import evolve
from torch import nn

import sonant
from sonant import config as configs
from sonant.build import Blueprint, assemble
from sonant.errors import ConfigError
from sonant.files import Files
from sonant.layout import PROVENANCE
from sonant.spec import canonical
from sonant_training.tuning import config, transfer

log = logging.getLogger(__name__)


def starting_model(data: Mapping[str, Any], folder: Path | str) -> nn.Module:
    """The model of a run's config, on the CPU in float32 and in training mode, with all the run's sections in its blueprint.

    Args:
        data: the config's sections, interpolations resolved. With `init: {from: …}` those of the model are merged over the
            checkpoint's; a section that names another component takes its place, and one that is null drops it.
        folder: where the config lies; files and checkpoints are looked up beside it.

    Raises:
        ConfigError: the config does not hold together, or the checkpoint's weights do not fit what it changes.
        CheckpointError, DownloadError, UnknownName: the checkpoint cannot be opened.
    """
    folder = Path(folder)
    init = config.read(data.get("init"))
    if init.source is None:
        if init.fresh:
            raise ConfigError("init.fresh: without init.from everything is fresh")
        filled = configs.fill_model(data)
        configs.warn_of_deprecated(filled)
        return assemble(filled, Files.beside(folder)).train()
    donor: nn.Module = sonant.load(_locate(init.source, folder), device="cpu", dtype="float32", revision=init.revision)
    origin: Blueprint = donor.blueprint  # type: ignore[assignment]
    run = {key: value for key, value in data.items() if key != PROVENANCE}
    filled = configs.fill_model(_merged(origin.config.to_dict(), run))
    files = _files(run, folder, origin)
    model = assemble(filled, files, source=origin.source, notes=origin.notes)
    blueprint: Blueprint = model.blueprint  # type: ignore[assignment]
    model.blueprint = evolve(blueprint, license=origin.license)  # type: ignore[assignment]
    report = transfer.transfer(donor, model, fresh=init.fresh)
    log.info("%s: %s", init.source, report)
    model.fresh_parameters = report.fresh  # type: ignore[assignment]
    return model.train()


def _locate(source: str, folder: Path) -> str | Path:
    """A path relative to the config, if there is something there; else what `sonant.load` makes of it."""
    beside = folder / Path(source).expanduser()
    return beside if beside.exists() else source


def _merged(model: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """The sections of `run` over those of a checkpoint."""
    merged = dict(model)
    for key, section in run.items():
        merged[key] = _over(merged[key], section) if key in model and section is not None else section
    return merged


def _over(old: Any, new: Any) -> Any:
    if isinstance(new, str):
        new = {"name": new}
    if not isinstance(new, Mapping) or not isinstance(old, Mapping):
        return new
    name = new.get("name", old.get("name"))
    if isinstance(name, str) and canonical(name) != canonical(str(old.get("name"))):
        return new
    return configs.merged(old, new)


def _files(run: Mapping[str, Any], folder: Path, origin: Blueprint) -> Files:
    """Files that the run's config names lie beside it; all others are the checkpoint's."""
    own, beside = set(_texts(run)), Files.beside(folder)

    def reader(name: str) -> bytes:
        is_beside = name in own and (folder / Path(name).expanduser()).exists()
        return beside.read(name) if is_beside or name not in origin.files else origin.files[name]

    return Files(reader)


def _texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [text for item in value.values() for text in _texts(item)]
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []
