"""Training, from a config to a model."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from torch import nn

from sonant.build import Blueprint, training_parts
from sonant.errors import ConfigError, SonantError
from sonant_training.errors import DataError
from sonant_training.running import (
    boards,
    callbacks,
    checkpoints,
    claiming,
    experiment,
    finishing,
    processes,
    quiet,
    rehearsal,
    resuming,
    saving,
    trainer_keys,
)
from sonant_training.running.experiment import Places
from sonant_training.running.faults import Faults
from sonant_training.running.metrics import GoingOn, MetricsFile
from sonant_training.running.module import Training
from sonant_training.running.progress import results
from sonant_training.running.reading import Run, read
from sonant_training.running.telling import told
from sonant_training.tuning.preparing import prepare_for_training
from sonant_training.tuning.starting import starting_model

log = logging.getLogger(__name__)

_UNUSED = "Expected to have finished reduction in the prior iteration"  # so PyTorch begins to say it


@frozen(kw_only=True)
class Outcome:
    """What a run came to: its folder, that of the model, the steps that were done, and the last value of each number."""

    folder: Path
    model: Path
    steps: int
    metrics: Mapping[str, float]


def train(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), **sections: Any) -> Outcome:
    """Train a model.

    Args:
        source: a config file, or its sections.
        overrides: `section.key=value` items, for a file.
        sections: values merged over the config's, as `trainer={"max_steps": 100}`.

    Raises:
        ConfigError: the config does not hold together.
        DataError: there is nothing to train on, or an example is bad and the config says to raise.
        UnknownName, DuplicateName: a component's name cannot be resolved.
    """
    return carry_out(read(source, overrides, sections))


def carry_out(run: Run) -> Outcome:
    """Train as a config says that was read; errors are those of `train`."""
    keys = trainer_keys.filled(run.trainer)
    places = experiment.choose(run.experiment, run.name)
    if processes.rank() == 0:
        is_new = not places.folder.exists()
        with claiming.claimed(places.folder):
            return _carry_out(run, keys, places, is_new=is_new)
    return _carry_out(run, keys, places, is_new=False)


def _carry_out(run: Run, keys: Mapping[str, Any], places: Places, *, is_new: bool) -> Outcome:
    is_first = processes.rank() == 0
    start = resuming.checkpoint(run.experiment, places)
    numbers = MetricsFile(places.metrics)
    loggers: list[Any] = [numbers, *([boards.logger(places)] if run.experiment.tensorboard else [])]
    with quiet.lightning():
        module = prepared(run)
        if start is not None:
            resuming.check(start, module, module.optimizer()[0])
        trainer = trainer_of(
            keys,
            callbacks=[*callbacks.of(run, places), GoingOn(numbers)],
            plugins=[saving.WholeFiles()],
            logger=loggers,
            default_root_dir=places.folder,
        )
        if is_first:
            experiment.write_config(places, run.to_dict(blueprint_of(module.model).config))
            saving.clear_parts(places.checkpoints)
        try:
            with told(places.log) if is_first else nullcontext(), refusals():
                log.info("training in %s%s", places.folder, "" if start is None else f", from {start}")
                trainer.fit(module, ckpt_path=start, weights_only=True)
                trainer.save_checkpoint(places.newest)
                return _finish(run, module, trainer, places)
        except SonantError:
            if is_new and trainer.global_step == 0:  # a manifest that is not there: nothing was begun
                shutil.rmtree(places.folder, ignore_errors=True)
            raise


def rehearse(run: Run) -> str:
    """Check a config as far as can be without training: build all, one step and one batch of each validation set; write nothing.

    Returns a summary for people. Errors are those of `train`.
    """
    keys = trainer_keys.filled(run.trainer)
    start = resuming.checkpoint(run.experiment, experiment.choose(run.experiment, run.name))
    with quiet.lightning(), told(None):
        module = prepared(run)
        if start is not None:
            resuming.check(start, module, module.optimizer()[0])
        summary = rehearsal.Rehearsal()
        trainer_of(keys, logger=False, enable_checkpointing=False)  # a rehearsal passes over some of them
        trainer = trainer_of(keys | {"fast_dev_run": 1}, callbacks=[summary, Faults()], logger=False, enable_checkpointing=False)
        with refusals():
            trainer.fit(module)
    return summary.text(run, trainer, module)


def prepared(run: Run) -> Training:
    """The model of a run with its losses, before its first step. Fresh weights follow from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        model: nn.Module = starting_model(run.data, run.folder)
        parts = training_parts(model)
        prepare_for_training(model, run.init)
    return Training(model, parts, run)


def blueprint_of(model: nn.Module) -> Blueprint:
    """What a model was built from."""
    return model.blueprint  # type: ignore[return-value]


def trainer_of(keys: Mapping[str, Any], **ours: Any) -> Trainer:
    """Lightning's trainer.

    Raises:
        ConfigError: it refuses a value, or there is no such device here.
    """
    try:
        return Trainer(**keys, **ours, enable_progress_bar=False, enable_model_summary=False, enable_autolog_hparams=False)
    except (TypeError, AttributeError) as error:
        raise ConfigError(f"trainer: Lightning's Trainer takes no value of such a type: {error}") from error
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise ConfigError(f"trainer: {error}") from error


@contextmanager
def refusals() -> Iterator[None]:
    """What Lightning refuses only once it trains is as much the config's fault, and so is what several processes cannot train.
    Processes that read ahead may end, too.

    Raises:
        ConfigError: it refused something.
        DataError: such a process was killed.
    """
    try:
        yield
    except MisconfigurationException as error:
        raise ConfigError(str(error)) from error
    except RuntimeError as error:
        if _UNUSED in str(error):
            raise ConfigError(
                "trainer.strategy: ddp wants every weight that is trained to have a part in the loss of each batch, and some "
                "have none; freeze those (init.freeze), or set trainer.strategy=ddp_find_unused_parameters_true, which is slower"
            ) from error
        if "DataLoader worker" not in str(error):
            raise
        raise DataError(
            f"a process that reads ahead has ended ({str(error).strip()}), mostly because there is no memory left: lower "
            "num_workers, prefetch_factor or batches, and go on with `sonant train CONFIG --resume`"
        ) from error


def _finish(run: Run, module: Training, trainer: Trainer, places: Places) -> Outcome:
    """The best weights, if they are wanted and known; the test; the model."""
    metrics = {name: float(value) for name, value in trainer.logged_metrics.items()}
    metrics |= {name: float(value) for name, value in trainer.callback_metrics.items()}
    steps = trainer.global_step
    best = checkpoints.best(trainer.callbacks) if run.experiment.final == "best" else None  # type: ignore[attr-defined]
    if best is not None and not Path(best[0]).is_file():
        log.warning("%s, the best, is no longer there; the last weights become the model", best[0])
        best = None
    if best is not None:
        log.info("taking the weights of %s", Path(best[0]).name)
        finishing.take_weights(module, best[0])
    elif run.experiment.ema is not None:
        finishing.take_weights(module, places.newest)
    if run.test:
        trainer.test(module, verbose=False)
        log.info("test  %s", results(trainer.callback_metrics, "test"))
        metrics |= {name: float(value) for name, value in trainer.callback_metrics.items()}
    if trainer.is_global_zero:
        finishing.save_model(module.model, places, nemo=run.experiment.save_nemo)
    return Outcome(folder=places.folder, model=places.model, steps=steps, metrics=metrics)
