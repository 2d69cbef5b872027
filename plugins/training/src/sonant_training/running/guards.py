"""What a run does when something goes wrong: a gradient that is no number, a signal to end."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from sonant_training.errors import Diverged, Interrupted
from sonant_training.running.experiment import Places
from sonant_training.running.moments import step_is_done, validation_follows

log = logging.getLogger(__name__)


def callbacks(places: Places, most_bad_steps: int) -> list[Callback]:
    """What watches over a run."""
    return [FiniteSteps(most_bad_steps), Signals(places)]


class FiniteSteps(Callback):
    """Leaves out steps whose gradient is not finite, and ends a run that has had `most` of them in a row.

    The gradient is the same in all processes, so all leave out the same steps. Statistics that the batch has spoilt, those of
    batch norms, are put back. In 16-bit floats gradients overflow now and then: there Lightning's scaler leaves out such steps.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._in_a_row = 0
        self._good: dict[str, Tensor] = {}

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """What is put back, should it be needed."""
        self._good = {name: buffer.clone() for name, buffer in _statistics(module).items()}

    def on_before_optimizer_step(self, trainer: Trainer, module: LightningModule, optimizer: Any) -> None:
        """An optimizer passes over parameters without gradients."""
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            return
        parameters = [parameter for parameter in module.parameters() if parameter.grad is not None]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if not gradients or bool(torch.stack(torch._foreach_norm(gradients)).isfinite().all()):
            self._in_a_row = 0
            self._keep(module)
            return
        for parameter in parameters:
            parameter.grad = None
        self._put_back(module)
        self._in_a_row += 1
        log.warning("step %d is left out: its gradient is not finite", trainer.global_step + 1)
        if self._in_a_row >= self.most:
            raise Diverged(
                f"the gradients of {self.most} steps in a row are not finite, up to step {trainer.global_step + 1}: try a lower "
                "optim.lr, a longer warm-up, or trainer.gradient_clip_val, and go on from a checkpoint with "
                "exp_manager.resume_from. `sonant data validate` looks for recordings that do not fit their texts"
            )

    def _keep(self, module: LightningModule) -> None:
        found = _statistics(module)
        if found:
            torch._foreach_copy_([self._good[name] for name in found], list(found.values()))

    def _put_back(self, module: LightningModule) -> None:
        for name, buffer in _statistics(module).items():
            buffer.copy_(self._good[name])


def _statistics(module: LightningModule) -> dict[str, Tensor]:
    """What training writes into without the optimizer."""
    return {name: buffer for name, buffer in module.named_buffers() if name.rpartition(".")[2].startswith("running_")}


class Signals(Callback):
    """On SIGTERM, or Ctrl-C, finishes the step, writes a checkpoint and ends. Ctrl-C a second time ends at once."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self._received = 0
        self._stops = False
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Listen; Python lets only the main thread do so."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Listen no more."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = number

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, index: int) -> None:
        """Between two steps; all processes end at the same one, whichever was told. A validation that is due comes first."""
        if step_is_done(trainer) and not validation_follows(trainer) and _any(trainer, self._received):
            trainer.save_checkpoint(self.places.newest)
            self._stops = True

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, index: int) -> None:
        """By now the numbers of the last step are written down, too."""
        if not self._stops:
            return
        path, number = self.places.newest, self._received or signal.SIGTERM
        raise Interrupted(
            f"stopped by {signal.Signals(number).name} at step {trainer.global_step}: wrote {path}; go on with "
            "`sonant train CONFIG --resume`",
            number,
        )


def _any(trainer: Trainer, received: int) -> bool:
    if trainer.world_size == 1:
        return bool(received)
    return bool(trainer.strategy.reduce_boolean_decision(bool(received), all=False))
