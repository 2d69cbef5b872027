"""Where a run is written: `exp_dir/name/version`, and what lies there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from attrs import frozen

from sonant.errors import ConfigError
from sonant_training.running import processes
from sonant_training.running.config import ExperimentConfig

_NUMBERED = re.compile(r"version_(\d+)")


@frozen
class Places:
    """The folder of a run, and what lies in it."""

    folder: Path

    @property
    def config(self) -> Path:
        """The filled config."""
        return self.folder / "config.yaml"

    @property
    def log(self) -> Path:
        """What the run said."""
        return self.folder / "train.log"

    @property
    def metrics(self) -> Path:
        """A row for each time that numbers were written down."""
        return self.folder / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        """What `tensorboard --logdir` shows."""
        return self.folder / "tensorboard"

    @property
    def left_out(self) -> Path:
        """Bad examples, if there were any."""
        return self.folder / "left_out.jsonl"

    @property
    def checkpoints(self) -> Path:
        """States of the run."""
        return self.folder / "checkpoints"

    @property
    def newest(self) -> Path:
        """The newest of them."""
        return self.checkpoints / "last.ckpt"

    @property
    def model(self) -> Path:
        """The model as a folder, once it is trained."""
        return self.folder / "model"

    @property
    def nemo(self) -> Path:
        """The model as a `.nemo` file."""
        return self.folder / "model.nemo"


def choose(config: ExperimentConfig, name: str) -> Places:
    """The folder of a run called `name` where its config does not say; it need not exist.

    Raises:
        ConfigError: `version` exists, and the run shall not go on with it; or several processes need one.
    """
    home = Path(config.exp_dir).expanduser() / (config.name or name)
    is_first = processes.rank() == 0
    if config.version is None and processes.started_together():
        raise ConfigError("exp_manager.version is missing: of several processes each would choose one for itself")
    if config.version is not None:
        folder = home / config.version
        if is_first and not config.resume_if_exists and folder.exists() and any(folder.iterdir()):
            raise ConfigError(
                f"exp_manager.version: {folder} holds a run already: name another version, or go on with it "
                "(exp_manager.resume_if_exists: true)"
            )
        return Places(folder)
    versions = numbered(home)
    if config.resume_if_exists:
        for folder in reversed(versions):
            if any(Places(folder).checkpoints.glob("*.ckpt")):
                return Places(folder)
    if not is_first and versions:  # that which the first has just begun
        return Places(versions[-1])
    following = 1 + int(_NUMBERED.fullmatch(versions[-1].name)[1]) if versions else 0  # type: ignore[index]
    return Places(home / f"version_{following}")


def numbered(home: Path) -> list[Path]:
    """Its folders `version_N`, in the order of their numbers."""
    found = {path: _NUMBERED.fullmatch(path.name) for path in (home.iterdir() if home.is_dir() else ())}
    return sorted((path for path, match in found.items() if match), key=lambda path: int(found[path][1]))  # type: ignore[index]


def write_config(places: Places, document: Mapping[str, Any]) -> None:
    """The config of the run, for people."""
    places.folder.mkdir(parents=True, exist_ok=True)
    places.config.write_text(yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True), "utf-8")
