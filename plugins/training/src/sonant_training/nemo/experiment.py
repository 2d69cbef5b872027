"""NeMo's `trainer` and `exp_manager` as ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sonant.nemo import NemoSection
from sonant_training.nemo import idle
from sonant_training.nemo.report import MISSING, Report

_SAME = (
    *("num_nodes", "accelerator", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "log_every_n_steps"),
    *("sync_batchnorm", "benchmark", "deterministic", "limit_val_batches", "limit_test_batches"),
)
_PRECISIONS = {"16": "16-mixed", "bf16": "bf16-mixed", "32": "32-true", "64": "64-true"}
_STRATEGIES = {"DDPStrategy": "ddp", "FSDPStrategy": "fsdp", "DeepSpeedStrategy": "deepspeed", "SingleDeviceStrategy": "auto"}


def steps_of(trainer: Mapping[str, Any]) -> int | None:
    """The length of the run in steps, None where NeMo's config counts epochs."""
    steps = trainer.get("max_steps")
    return steps if isinstance(steps, int) and steps > 0 else None


def read_trainer(values: Mapping[str, Any], max_steps: int | None, report: Report) -> dict[str, Any]:
    """The section `trainer`."""
    section = NemoSection(values, "trainer")
    found: dict[str, Any] = {"max_steps": max_steps or steps_of(values) or MISSING}
    if found["max_steps"] == MISSING:
        epochs = values.get("max_epochs")
        report.change("trainer.max_epochs", f"{epochs} epochs: a run here is so many steps long, epochs × batches an epoch")
    section.drop("max_steps", "max_epochs", "max_time")
    found |= {key: section.take(key) for key in _SAME if section.peek(key) is not None}
    devices = section.take("devices", None)
    found |= {"devices": "auto" if devices == -1 else devices} if devices is not None else {}
    precision = section.take("precision", None)
    found |= {"precision": _PRECISIONS.get(str(precision), precision)} if precision is not None else {}
    strategy = section.take("strategy", None)
    found |= {"strategy": _strategy(strategy, report)} if strategy is not None else {}
    found |= _interval(section, report)
    report.close(section, idle.TRAINER)
    return found


def _strategy(value: Any, report: Report) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    name = str(value.get("_target_")).rsplit(".", 1)[-1]
    report.change("trainer.strategy", f"the options of {name} are left out")
    return _STRATEGIES.get(name, "auto")


def _interval(section: NemoSection, report: Report) -> dict[str, Any]:
    """NeMo validates by epochs or parts of them, and lhotse's loaders call `limit_train_batches` an epoch."""
    interval, epoch = section.take("val_check_interval", None), section.peek("limit_train_batches")
    if isinstance(interval, int) and not isinstance(interval, bool) and interval > 1:
        return {"val_check_interval": interval}
    if isinstance(epoch, int) and epoch > 1:
        return {"val_check_interval": max(1, int(epoch * (interval or 1)))}
    what = "counts epochs, and here batches: one validation after 1000, if nothing is set"
    report.change("trainer.val_check_interval", what)
    return {}


def read_time(trainer: Mapping[str, Any], known: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """`trainer.max_time` as the key of `exp_manager` that ends a run between two steps, where `known` does not have it."""
    time = trainer.get("max_time")
    if time is None:
        return {}
    if "max_time_per_run" in known or not isinstance(time, str):
        report.change("trainer.max_time", f"{time} is left out; exp_manager.max_time_per_run says it, as 00:12:00:00")
        return {}
    report.change("trainer.max_time", "becomes exp_manager.max_time_per_run, which begins anew with each run")
    return {"max_time_per_run": time}


def read_exp_manager(values: Mapping[str, Any], name: str | None, report: Report) -> dict[str, Any]:
    """The section `exp_manager`. `name` is that of the whole document."""
    section = NemoSection(values, "exp_manager")
    found = _some(section, {"exp_dir": "exp_dir", "name": "name", "version": "version", "resume_if_exists": "resume_if_exists"})
    found |= _some(section, {"resume_from_checkpoint": "resume_from", "max_time_per_run": "max_time_per_run"})
    if "name" not in found and name:
        found["name"] = name
    found["tensorboard"] = bool(section.take("create_tensorboard_logger", True))
    kept = NemoSection(section.take("checkpoint_callback_params", None) or {}, "exp_manager.checkpoint_callback_params")
    if section.take("create_checkpoint_callback", True):
        found["save_nemo"] = bool(kept.take("save_nemo_on_train_end", True)) | bool(kept.take("always_save_nemo", False))
        found["checkpoints"] = _monitored(kept, report)
        found["checkpoints"] |= _some(kept, {"save_top_k": "save_top_k", "save_last": "save_last"})
        found["checkpoints"] |= _some(kept, {"every_n_train_steps": "every_n_steps"})
    else:
        found["checkpoints"] = {"save_top_k": 0, "save_last": False}
    kept.drop("always_save_nemo", "save_nemo_on_train_end")
    report.close(kept, idle.CHECKPOINTS)
    key = "early_stopping_callback_params"
    stopping = NemoSection(section.take(key, None) or {}, f"exp_manager.{key}")
    if section.take("create_early_stopping_callback", False):
        found["early_stopping"] = _monitored(stopping, report)
        found["early_stopping"] |= _some(stopping, {"patience": "patience", "min_delta": "min_delta"})
        report.close(stopping)
    ema = NemoSection(section.take("ema", None) or {}, "exp_manager.ema")
    if ema.take("enable", False):
        found["ema"] = _some(ema, {"decay": "decay", "every_n_steps": "every_n_steps"})
        report.close(ema)
    report.close(section, idle.EXPERIMENT)
    return {key: value for key, value in found.items() if value != {} or key == "ema"}


def _monitored(section: NemoSection, report: Report) -> dict[str, Any]:
    """`monitor` and `mode`, where there is such a number here."""
    monitor = section.peek("monitor")
    if monitor is not None and not re.fullmatch(r"val_(loss|wer|cer)|train_loss", str(monitor)):
        report.change(f"{section.path}.monitor", f"{monitor} is not known here; the lowest validation loss is the best")
        section.drop("monitor", "mode")
    return _some(section, {"monitor": "monitor", "mode": "mode"})


def _some(section: NemoSection, keys: Mapping[str, str]) -> dict[str, Any]:
    """Those of the keys that are set, by our names."""
    return {ours: section.take(theirs) for theirs, ours in keys.items() if section.peek(theirs) is not None}
