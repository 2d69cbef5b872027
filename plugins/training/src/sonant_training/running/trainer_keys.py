"""The section `trainer`: keys of Lightning's `Trainer`, checked against the one that is installed."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer

from sonant.errors import ConfigError
from sonant_training.running.config import TIME

_INSTEAD = {
    "logger": "exp_manager.tensorboard says whether there is one",
    "callbacks": "what they do is in exp_manager",
    "enable_checkpointing": "exp_manager.checkpoints says what is kept",
    "default_root_dir": "exp_manager.exp_dir is the folder of all runs",
    "enable_progress_bar": "progress is shown where there is a terminal",
    "enable_model_summary": "`sonant train --dry-run` prints one",
    "fast_dev_run": "that is `sonant train --dry-run`",
    "barebones": "leave out what you do not need in exp_manager",
    "max_epochs": "the training data repeats without end; give trainer.max_steps",
    "min_epochs": "the training data repeats without end; trainer.min_steps holds off early stopping",
    "overfit_batches": "name a small manifest in train_ds",
    "reload_dataloaders_every_n_epochs": "the training data repeats without end",
    "use_distributed_sampler": "the data is divided among processes as it is",
    "check_val_every_n_epoch": "trainer.val_check_interval is the number of batches from one validation to the next",
    "max_time": "exp_manager.max_time_per_run ends a run between two steps, and never amid the batches of one",
    "plugins": "it takes objects, and a config holds names",
    "enable_autolog_hparams": "the filled config is written beside the run",
    "model_registry": "models are saved in the folder of the run",
}
"""Keys of Lightning's that are decided elsewhere, with where."""

_NUMBERS: dict[str, tuple[int, type]] = {
    "accumulate_grad_batches": (1, int),
    "log_every_n_steps": (0, int),
    "num_sanity_val_steps": (-1, int),
    "gradient_clip_val": (0, float),
    "min_steps": (1, int),
}
"""Keys whose values Lightning uses as they come, with the least and the kind."""

_MAY_BE_NONE = ("log_every_n_steps", "num_sanity_val_steps", "gradient_clip_val", "min_steps")
_SWITCHES = ("benchmark", "inference_mode", "detect_anomaly", "sync_batchnorm")

_STEPS = 1000
DEFAULTS = {"max_epochs": -1, "check_val_every_n_epoch": None, "num_sanity_val_steps": 1, "use_distributed_sampler": False}
"""Ours, where Lightning has others: the training data repeats without end, and is divided among processes as it is."""


def filled(values: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of the `Trainer`.

    Raises:
        ConfigError: a key that it does not have, or that is decided elsewhere.
    """
    known = [name for name in inspect.signature(Trainer.__init__).parameters if name not in ("self", *_INSTEAD)]
    for key in values:
        if key in _INSTEAD:
            raise ConfigError(f"trainer.{key} is not set here: {_INSTEAD[key]}")
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"Did you mean {close[0]!r}? " if close else ""
            raise ConfigError(f"trainer.{key}: unknown key. {hint}Known keys, those of Lightning's Trainer: {', '.join(known)}")
    for key, (least, kind) in _NUMBERS.items():
        if key in values and not (values[key] is None and key in _MAY_BE_NONE):
            _check_number(key, values[key], least, kind)
    for key in _SWITCHES:
        if not isinstance(values.get(key), bool | None):
            raise ConfigError(f"trainer.{key}: expected true or false, not {values[key]!r}")
    if not isinstance(values.get("profiler"), str | None):
        raise ConfigError(f"trainer.profiler: expected a name, as simple, not {values['profiler']!r}")
    result = {"val_check_interval": _interval(values), **DEFAULTS, **values}
    _check_interval(result)
    return result


def _check_number(key: str, value: Any, least: int, kind: type) -> None:
    allowed = (int,) if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed) or not least <= value < math.inf:
        what = "a whole number" if kind is int else "a number"
        raise ConfigError(f"trainer.{key}: expected {what}, from {least} on, not {value!r}")


def _interval(values: Mapping[str, Any]) -> int:
    """Batches from one validation to the next: about a thousand steps, so that the last is at the end or a little before."""
    steps, together = values["max_steps"], values.get("accumulate_grad_batches", 1)
    return int(steps // math.ceil(steps / _STEPS) * together)


def _check_interval(values: Mapping[str, Any]) -> None:
    interval, together = values["val_check_interval"], values.get("accumulate_grad_batches", 1)
    is_number = isinstance(interval, int) and not isinstance(interval, bool) and interval >= 1
    if not (is_number or isinstance(interval, Mapping) or (isinstance(interval, str) and TIME.fullmatch(interval))):
        raise ConfigError(
            f"trainer.val_check_interval: expected a number of batches, not {interval!r}: the training data repeats without end, "
            "so that there is no part of it"
        )
    if isinstance(interval, int) and interval % together:
        raise ConfigError(
            f"trainer.val_check_interval counts batches, and {together} of them make a step (trainer.accumulate_grad_batches): "
            f"{interval} is not a multiple of {together}"
        )
