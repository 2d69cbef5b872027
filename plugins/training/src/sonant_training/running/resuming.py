"""Which checkpoint a run goes on from, and whether it is one of this run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sonant.errors import CheckpointError, ConfigError
from sonant_training.running import saving
from sonant_training.running.config import ExperimentConfig
from sonant_training.running.experiment import Places

log = logging.getLogger(__name__)

_NEEDED = {
    "state_dict": Mapping,
    "optimizer_states": list,
    "loops": Mapping,
    "callbacks": Mapping,
    "global_step": int,
    "batches": int,
}


def checkpoint(config: ExperimentConfig, places: Places) -> Path | None:
    """The file to go on from, the newest that is whole; None begins anew.

    Raises:
        ConfigError: `resume_from` is not there.
        CheckpointError: there are checkpoints to go on from, and none of them is whole.
    """
    if config.resume_from is not None:
        path = Path(config.resume_from).expanduser()
        if not path.is_file():
            raise ConfigError(f"exp_manager.resume_from: there is no {path}")
        return path
    if not config.resume_if_exists:
        return None
    there = [path for path in places.checkpoints.glob("*.ckpt") if path.is_file()]
    for path in sorted(there, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        if saving.is_whole(path):
            return path
        log.warning("%s is not whole; going on from an older one", path)
    if there:
        raise CheckpointError(
            f"none of the checkpoints in {places.checkpoints} is whole; put back a copy of one, or train without --resume, which "
            "begins in a folder of its own"
        )
    return None


def check(path: Path, module: nn.Module, optimizer: Any) -> None:
    """Whether a run can go on from a file, which is looked at without reading its tensors.

    Raises:
        CheckpointError: it cannot be read, or is no state of a run.
        ConfigError: it is of a model of other sizes or of another optimizer than this config's.
    """
    stored = saving.read(path, mmap=True)
    wrong = [key for key, kind in _NEEDED.items() if not isinstance(stored.get(key), kind)]
    if wrong or stored["batches"] < 0:
        raise CheckpointError(f"{path} is not a state of a run: it has no {', '.join(wrong or ['batches'])} as such a file has")
    difference = _differing(stored["state_dict"], module.state_dict())
    if difference is None and _kinds(stored["optimizer_states"]) != _kinds([optimizer.state_dict()]):
        difference = "the optimizer or its groups are others"
    if difference is not None:
        raise ConfigError(
            f"{path} is of another config than this one: {difference}. Go on with the config that the run had, or begin a new "
            "run with its model, `init: {from: FOLDER}`"
        )


def _differing(stored: Mapping[str, Any], own: Mapping[str, Tensor]) -> str | None:
    for name, value in own.items():
        there = stored.get(name)
        if not isinstance(there, Tensor):
            return f"it has no {name.removeprefix('model.')}"
        if there.shape != value.shape:
            return f"{name.removeprefix('model.')} has the shape {tuple(there.shape)}, and here {tuple(value.shape)}"
    extra = [name for name in stored if name not in own]
    return f"it has {str(extra[0]).removeprefix('model.')}, and this model has not" if extra else None


def _kinds(states: Any) -> Any:
    """How many parameters the groups of optimizers have, and which options."""
    try:
        return [[(len(group["params"]), sorted(set(group) - {"initial_lr"})) for group in one["param_groups"]] for one in states]
    except (TypeError, KeyError):
        return None
