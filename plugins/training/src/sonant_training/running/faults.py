"""Bad examples of a run: told as they come, and listed in its folder."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from attrs import asdict
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import distributed

from sonant_training.data.faults import Fault, FaultLog

log = logging.getLogger(__name__)


class Faults(Callback):
    """Warns of what is left out because it cannot be read, or learned from; `path` lists it at the end."""

    def __init__(self, path: Path | None = None) -> None:
        self.path, self.known = path, FaultLog()

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Those that were told of when the manifests were read."""
        for loader in (trainer.train_dataloader, *(trainer.val_dataloaders or ())):
            self.known.found |= {fault.where: fault for fault in loader.faults}

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Those that should have been in a batch of training."""
        self.known.add(batch.faults)

    def on_validation_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Those that should have been in a batch of validation."""
        self.known.add(batch.faults)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Count those of all processes, and write them down."""
        found = list(_of_all(self.known.found).values())
        if not found or not trainer.is_global_zero:
            return
        where = "" if self.path is None else f"; {self.path} lists them"
        if self.path is not None:
            self.path.write_text("".join(json.dumps(asdict(fault), ensure_ascii=False) + "\n" for fault in found), "utf-8")
        log.warning("%d examples were left out%s", len(found), where)


def _of_all(mine: dict[str, Fault]) -> dict[str, Fault]:
    """What any process has found, each once: they read different examples."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return mine
    found: list[dict[str, Fault] | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, mine)
    return {where: fault for one in found if one is not None for where, fault in one.items()}
