"""TensorBoard, through Lightning's logger."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from sonant_training.running.experiment import Places


class _Board(TensorBoardLogger):
    """Without the file of hyperparameters, which would be empty: the config of a run lies beside."""

    def save(self) -> None:
        self.experiment.flush()


def logger(places: Places) -> TensorBoardLogger:
    """One that writes into the folder of a run."""
    return _Board(places.tensorboard.parent, name=places.tensorboard.name, version="")


def board(trainer: Trainer) -> Any:
    """What takes texts and pictures; None where none is wanted."""
    found = next((one for one in trainer.loggers if isinstance(one, TensorBoardLogger)), None)
    return None if found is None else found.experiment
