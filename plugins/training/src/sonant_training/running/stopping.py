"""When a run ends before its last step."""

from __future__ import annotations

import logging
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from sonant_training.running import config as configs
from sonant_training.running.checkpoints import monitored
from sonant_training.running.config import ExperimentConfig
from sonant_training.running.moments import step_is_done

log = logging.getLogger(__name__)


def callbacks(config: ExperimentConfig, *, validates: bool) -> list[Callback]:
    """What ends a run early."""
    found: list[Callback] = []
    stopping = config.early_stopping
    monitor = None if stopping is None else stopping.monitor or monitored(config.checkpoints, validates=validates)
    if stopping is not None and monitor is not None:
        found.append(
            EarlyStopping(
                monitor, mode=stopping.mode, patience=stopping.patience, min_delta=stopping.min_delta, check_finite=False
            )
        )
    if config.max_time_per_run is not None:
        found.append(Deadline(configs.seconds(config.max_time_per_run)))
    return found


class Deadline(Callback):
    """Ends a run `seconds` after it began; another can go on from there.

    It ends between two steps, all processes at the same: the first one's clock counts.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self._began = seconds, time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, index: int) -> None:
        if trainer.should_stop or not step_is_done(trainer):
            return
        if trainer.strategy.broadcast(time.monotonic() - self._began >= self.seconds):
            log.info("stopped at step %d: the time of this run is over (exp_manager.max_time_per_run)", trainer.global_step)
            trainer.should_stop = True
