"""Numbers of a run, a row of JSON each time: what is easily read by a program, and goes on where a run goes on."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

log = logging.getLogger(__name__)


class MetricsFile(Logger):
    """Appends `{"step": …, "time": …, "train_loss": …}` to a file.

    `step` counts the optimizer steps that are done, `time` seconds since 1970. A number that is not finite is null.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @property
    def name(self) -> str:
        """Lightning wants one."""
        return ""

    @property
    def version(self) -> str:
        """Lightning wants one."""
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """One row."""
        values = {key: float(value) for key, value in metrics.items() if key != "epoch"}
        is_test = any(key.startswith("test_") for key in values)
        done = step if step is None or is_test else step + 1  # Lightning numbers steps from 0, and a test by those that are done
        row = {"step": done, "time": round(time.time(), 1)} | {k: v if math.isfinite(v) else None for k, v in values.items()}
        try:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(row) + "\n")
        except OSError as error:  # a full disk; the run is worth more than its numbers
            log.warning("%s is not written: %s", self.path, error.strerror)

    @rank_zero_only
    def forget_after(self, step: int) -> None:
        """Leave out the rows of later steps, and of tests: a run that goes on from there writes them anew."""
        if not self.path.exists():
            return
        lines = self.path.read_text("utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and _is_of(json.loads(line), step)]
        if kept != lines:
            part = self.path.with_name(self.path.name + ".part")
            part.write_text("".join(kept), "utf-8")
            part.replace(self.path)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """They are in the config beside it."""


class GoingOn(Callback):
    """Has no number written down twice where a run goes on from before the step at which it was killed."""

    def __init__(self, file: MetricsFile) -> None:
        self.file = file

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """The step is known from here on."""
        self.file.forget_after(trainer.global_step)

    def on_test_start(self, trainer: Trainer, module: LightningModule) -> None:
        """A run that was over is tested again."""
        self.file.forget_after(trainer.global_step)


def _is_of(row: Mapping[str, Any], step: int) -> bool:
    return (row.get("step") or 0) <= step and not any(key.startswith("test_") for key in row)
