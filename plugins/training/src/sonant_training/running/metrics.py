"""Numbers of a run, a row of JSON each time: what is easily read by a program, and goes on where a run goes on."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """They are in the config beside it."""
