"""Examples of a validation, written down: what was said and what the model heard."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from sonant.cli.printing import shown
from sonant.training import Score
from sonant_training.running.boards import board

log = logging.getLogger(__name__)


class Samples(Callback):
    """Keeps the first `count` scores of each validation, for the log (the first of them) and for TensorBoard."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._found: list[Score] = []

    def on_validation_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Begin anew."""
        self._found = []

    def on_validation_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Take what is wanted."""
        self._found += outputs[: max(0, self.count - len(self._found))]

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Write it down."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        for score in self._found[:1]:
            log.info("  said   %s\n  heard  %s", shown(score.reference), shown(score.result))
        writer = board(trainer)
        if writer is not None and self._found:
            writer.add_text("samples", table(self._found), trainer.global_step)


def table(scores: Sequence[Score]) -> str:
    """A table in Markdown, which TensorBoard shows."""
    rows = ["| example | said | heard |", "|---|---|---|"]
    return "\n".join([*rows, *(f"| {_cell(s.name)} | {_cell(s.reference)} | {_cell(s.result)} |" for s in scores)])


def _cell(text: str) -> str:
    return "".join(f"\\{c}" if c in r"\|*_`<>[]#" else c for c in " ".join(text.split()))
