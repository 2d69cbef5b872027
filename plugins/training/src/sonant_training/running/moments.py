"""Where in a run a batch has ended. Lightning knows, and tells only itself."""

from __future__ import annotations

from lightning.pytorch import Trainer


def step_is_done(trainer: Trainer) -> bool:
    """Whether the batch that has just ended completed an optimizer step, rather than being gathered for one.

    A checkpoint between two such batches would lack the gradients of the first.
    """
    return not trainer.fit_loop._should_accumulate()


def validation_follows(trainer: Trainer) -> bool:
    """Whether a validation comes before the next batch of training.

    A run that goes on from a checkpoint written before it would go on without it.
    """
    loop = trainer.fit_loop
    return loop._data_fetcher is not None and loop.epoch_loop._should_check_val_fx(loop._data_fetcher)
