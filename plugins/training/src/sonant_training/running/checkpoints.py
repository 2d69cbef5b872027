"""Keeping states of a run: the best by a measure, and the newest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from sonant.errors import ConfigError
from sonant_training.running.config import CheckpointsConfig, ExperimentConfig
from sonant_training.running.moments import step_is_done, validation_follows


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
        name = f"{{step}}-{{{monitor}:.4f}}"
        found.append(ModelCheckpoint(filename=name, monitor=monitor, mode=config.mode, save_top_k=config.save_top_k, **shared))
    if config.save_last:
        found.append(Newest(newest, config.every_n_steps))
    return found


class Newest(Checkpoint):
    """Writes the newest state after each validation, and after every so many steps.

    Where both are due, it is the validation: a run that goes on from a checkpoint goes on behind the step, and what was found by
    a validation that was not over is not in it. Lightning calls it last, so that all else is in the checkpoint.
    """

    def __init__(self, path: Path, every_n_steps: int | None) -> None:
        self.path, self.every_n_steps = path, every_n_steps

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, index: int) -> None:
        """After so many steps."""
        is_due = self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0
        if is_due and step_is_done(trainer) and not validation_follows(trainer):
            trainer.save_checkpoint(self.path)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """After a validation."""
        if not trainer.sanity_checking:
            trainer.save_checkpoint(self.path)


def monitored(config: CheckpointsConfig, *, validates: bool) -> str | None:
    """What the best are chosen by; None where nothing can be."""
    return (config.monitor or "val_loss") if validates else None


def check_monitored(config: ExperimentConfig, known: set[str]) -> None:
    """Whether there are such numbers, of which a validation gave those that are `known`.

    Raises:
        ConfigError: there are not.
    """
    stopping = config.early_stopping
    asked = {"checkpoints": config.checkpoints.monitor, "early_stopping": None if stopping is None else stopping.monitor}
    for key, name in asked.items():
        if name is not None and name not in known and not name.startswith("train_") and name not in ("lr", "grad_norm"):
            raise ConfigError(
                f"exp_manager.{key}.monitor: there is no number {name!r}. A validation gives {', '.join(sorted(known))}"
            )


def best(found: list[Callback]) -> tuple[str, float] | None:
    """The file of the best checkpoint of this run and its score, where one is known: that of a run before has no score here."""
    for callback in found:
        if isinstance(callback, ModelCheckpoint) and callback.best_model_path and callback.best_model_score is not None:
            return callback.best_model_path, float(callback.best_model_score)
    return None
