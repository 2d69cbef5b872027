"""Keeping states of a run: the best by a measure, and the newest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint

from sonant_training.running.config import CheckpointsConfig


def callbacks(config: CheckpointsConfig, newest: Path, *, validates: bool) -> list[Callback]:
    """What writes the checkpoints of a run.

    Args:
        config: what to keep.
        newest: the file of the newest; those of the best are beside it.
        validates: whether the run has a validation set, without which nothing can be monitored.
    """
    shared: dict[str, Any] = {"dirpath": newest.parent, "auto_insert_metric_name": False, "enable_version_counter": False}
    found: list[Callback] = []
    monitor = monitored(config, validates=validates)
    if config.save_top_k and monitor is not None:
        name = f"{{step}}-{{{monitor}:.4f}}".replace("/", "_")
        found.append(ModelCheckpoint(filename=name, monitor=monitor, mode=config.mode, save_top_k=config.save_top_k, **shared))
    if config.save_last:
        found.append(ModelCheckpoint(filename=newest.stem, save_top_k=1, every_n_train_steps=config.every_n_steps, **shared))
    return found


def monitored(config: CheckpointsConfig, *, validates: bool) -> str | None:
    """What the best are chosen by; None where nothing can be."""
    return (config.monitor or "val_loss") if validates else None


def best(found: list[Callback]) -> tuple[str, float] | None:
    """The file of the best checkpoint and its score, where one is known."""
    for callback in found:
        if isinstance(callback, ModelCheckpoint) and callback.monitor is not None and callback.best_model_path:
            score = callback.best_model_score
            return callback.best_model_path, float("nan") if score is None else float(score)
    return None
