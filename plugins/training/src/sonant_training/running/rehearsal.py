"""What `sonant train --dry-run` tells."""

from __future__ import annotations

import time
from typing import Any

from attrs import frozen
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from sonant.cli.printing import size
from sonant_training.running.module import Training
from sonant_training.running.pace import clock
from sonant_training.running.progress import memory, results
from sonant_training.running.reading import Run


@frozen
class _Step:
    """A batch of training: how much audio, its loss, the seconds it took."""

    examples: int
    audio: float
    padded: float
    loss: float
    took: float


class Rehearsal(Callback):
    """Looks on while one batch is trained on."""

    def __init__(self) -> None:
        self._began = 0.0
        self._step: _Step | None = None

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int) -> None:
        """The clock."""
        self._began = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """The batch is through."""
        loss = float(outputs["loss"]) * trainer.accumulate_grad_batches
        self._step = _Step(batch.examples, batch.seconds, batch.padded_seconds, loss, time.monotonic() - self._began)

    def text(self, run: Run, trainer: Trainer, module: Training) -> str:
        """The summary."""
        assert self._step is not None
        step = self._step
        total, learned = (sum(p.numel() for p in module.parameters() if p.requires_grad or every) for every in (True, False))
        batches = run.max_steps * trainer.accumulate_grad_batches
        rows = [
            ("model", ", ".join(f"{name} {counted(part)}" for name, part in module.model.named_children() if parameters(part))),
            ("parameters", f"{total:,}, of which {learned:,} are trained; {size(4 * total)} as float32"),
            ("device", f"{trainer.num_devices * trainer.num_nodes} × {module.device.type}, precision {trainer.precision}"),
            (
                "first batch",
                f"{step.examples} examples, {step.audio:.1f} s, {step.padded - step.audio:.1f} s of padding",
            ),
            ("loss of it", f"{step.loss:.4f}"),
            *([("validation", results(trainer.callback_metrics, "val") + " (one batch)")] if run.validation else []),
            ("memory", memory(module.device)),
            ("time of it", f"{step.took:.2f} s; {batches:,} such batches take {clock(step.took * batches)}"),
        ]
        return "\n".join(f"{name:<12}{text}" for name, text in rows)


def parameters(part: nn.Module) -> int:
    """How many it has."""
    return sum(parameter.numel() for parameter in part.parameters())


def counted(part: nn.Module) -> str:
    """`12.3 M`."""
    count = float(parameters(part))
    for unit in ("", " k", " M"):
        if count < 999.5 or unit == " M":
            return f"{count:.0f}{unit}" if unit == "" or count >= 99.95 else f"{count:.1f}{unit}"
        count /= 1000
    raise AssertionError
