"""How a run gets on: a bar on a terminal, lines elsewhere, and a line for each validation."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from tqdm import tqdm

from sonant_training.running.pace import Pace, clock

log = logging.getLogger(__name__)

_EVERY = 30.0  # seconds between two lines, where there is no terminal
_REFRESH = 0.5  # and between two changes of the bar: reading the loss waits for the GPU
_BAR = "{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt}{postfix}"


class Progress(Callback):
    """Tells the loss, the error rate of the last validation, audio seconds per second, memory and the time left."""

    def __init__(self, *, bar: bool | None = None) -> None:
        self._wants_bar = sys.stderr.isatty() if bar is None else bar
        self._bar: Any = None
        self._pace: Pace | None = None
        self._loss = torch.zeros(())
        self._batches = 0
        self._told = 0.0

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """The clock runs from here."""
        self._pace = Pace(step=trainer.global_step, last=trainer.max_steps)
        self._told = time.monotonic()
        if self._wants_bar and trainer.is_global_zero:
            self._bar = tqdm(
                total=trainer.max_steps, initial=trainer.global_step, bar_format=_BAR, desc="training", dynamic_ncols=True
            )

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, index: int) -> None:
        """One batch more."""
        assert self._pace is not None
        self._pace.add(batch.seconds * trainer.world_size, trainer.global_step)
        self._loss = self._loss.to(outputs["loss"].device) + outputs["loss"].detach()
        self._batches += 1
        module.log("audio_seconds_per_second", self._pace.speed)
        now = time.monotonic()
        if now - self._told < (_REFRESH if self._bar is not None else _EVERY):
            return
        self._told = now
        text = self._state(trainer, module)
        if self._bar is not None:
            self._bar.n = trainer.global_step
            self._bar.set_postfix_str(text)
        elif trainer.is_global_zero:
            log.info("step %d/%d  %s", trainer.global_step, trainer.max_steps, text)

    def _state(self, trainer: Trainer, module: LightningModule) -> str:
        assert self._pace is not None
        loss = float(self._loss) / max(1, self._batches) * trainer.accumulate_grad_batches
        self._loss, self._batches = torch.zeros(()), 0
        rate = error_rate(trainer.callback_metrics)
        parts = [f"loss {loss:.3f}", *([rate] if rate else []), f"{self._pace.speed:.0f} s/s", memory(module.device)]
        return "  ".join([*parts, f"{clock(self._pace.left)} left"])

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        """A sign on the bar that it stands for a reason."""
        if self._bar is not None:
            self._bar.set_description_str("validating")

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """The line of a validation."""
        if self._pace is not None:
            self._pace.resume()
        if self._bar is not None:
            self._bar.set_description_str("training")
        if not trainer.sanity_checking and trainer.is_global_zero:
            log.info("step %d/%d  %s", trainer.global_step, trainer.max_steps, results(trainer.callback_metrics, "val"))

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """The bar stays, as it stands."""
        self._close(trainer)

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        """The bar stays, as it stands."""
        self._close(trainer)

    def _close(self, trainer: Trainer) -> None:
        if self._bar is not None:
            self._bar.n = trainer.global_step
            self._bar.close()
            self._bar = None


def error_rate(metrics: Mapping[str, Any]) -> str:
    """The first rate of error of the last validation, `wer 12.3 %`; empty before there was one."""
    found = [name for name in metrics if name.startswith("val_") and not name.endswith("loss") and "/" not in name]
    best = "val_wer" if "val_wer" in found else next(iter(found), None)
    return "" if best is None else f"{best.removeprefix('val_')} {shown(best, float(metrics[best]))}"


def results(metrics: Mapping[str, Any], stage: str) -> str:
    """All that a validation or a test found: the loss, then the rates."""
    found = {name: float(value) for name, value in metrics.items() if name.startswith(f"{stage}_")}
    order = sorted(found, key=lambda name: ("/" in name, not name.partition("/")[0].endswith("loss"), "wer" not in name, name))
    return "  ".join(f"{name} {shown(name, found[name])}" for name in order)


def shown(name: str, value: float) -> str:
    """Losses as they are, rates of error in percent."""
    return f"{value:.4f}" if name.partition("/")[0].endswith("loss") else f"{100 * value:.2f} %"


def memory(device: torch.device) -> str:
    """What the process took at most: of the GPU's memory, or else of the machine's."""
    if device.type == "cuda":
        return f"{torch.cuda.max_memory_reserved(device) / 1e9:.1f} GB"
    try:
        import resource  # not on Windows
    except ImportError:
        return ""
    unit = 1 if sys.platform == "darwin" else 1024
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9:.1f} GB"
