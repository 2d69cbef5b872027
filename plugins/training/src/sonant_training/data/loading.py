"""Loaders of batches, for training without end and for validation once through.

What a batch holds follows from the config, the seed, the rank and the number of ranks. Nothing about a loader need be saved: a
run that goes on leaves out as many batches as it has had.
"""

from __future__ import annotations

import logging
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from attrs import evolve, frozen
from torch.utils.data import DataLoader, Sampler

from sonant_training.data import planning
from sonant_training.data.catalog import Catalog, open_catalog
from sonant_training.data.config import DataConfig
from sonant_training.data.faults import Fault, FaultLog
from sonant_training.data.loaded import Loaded
from sonant_training.data.perturbing import Perturbation, open_perturbation
from sonant_training.data.planning import Pick, Plan
from sonant_training.data.reading import Reader
from sonant_training.data.recordings import recordings
from sonant_training.data.tools.numbers import duration
from sonant_training.errors import DataError

__all__ = ["DataError", "FaultLog", "Loaded", "training_batches", "validation_batches"]

log = logging.getLogger(__name__)


@frozen(kw_only=True, eq=False)
class _Endless(Sampler[Pick]):
    """One rank's part of the batches of epoch after epoch."""

    plan: Plan
    skip: int
    rank: int

    def __iter__(self) -> Iterator[Pick]:
        mine = slice(self.rank, None, self.plan.devices)
        return (pick.take(mine) for pick in self.plan.batches(self.skip))


class _Loader(DataLoader[Any]):
    """Raises the errors that come in the place of a batch. `faults` are the lines of manifests that are no examples."""

    faults: tuple[Fault, ...] = ()

    def __iter__(self) -> Iterator[Loaded]:  # type: ignore[override]
        with warnings.catch_warnings():
            # Python warns of a fork where there are threads. Those of torch hold nothing that a reader of audio wants.
            warnings.filterwarnings("ignore", message=".*use of fork", category=DeprecationWarning)
            batches = super().__iter__()
        for item in batches:
            if isinstance(item, DataError):
                # Not `item` itself: it would be in the traceback and hold it, and the processes would wait for each other to end.
                raise DataError(str(item))
            yield item


def training_batches(
    config: DataConfig,
    *,
    task: Any,
    sample_rate: int,
    seed: int,
    skip: int = 0,
    rank: int = 0,
    world_size: int = 1,
    folder: Path | None = None,
) -> DataLoader[Loaded]:
    """Batches of epoch after epoch, without end.

    Args:
        config: the section `train_ds`.
        task: a `Trainable`, whose `prepare` and `collate` make the batches.
        sample_rate: of the audio that the task takes, in Hz.
        seed: from which order and perturbation follow.
        skip: so many batches are left out, without reading their audio.
        rank: which of `world_size` processes this is. They get different batches, of as many examples each.
        world_size: how many processes train together.
        folder: where relative names in `config` are; None is the current folder.

    Raises:
        DataError: there is nothing to train on, or an example is bad and the config says to raise.
    """
    folder = folder or Path()
    catalog = _open(config, folder, task, "training")
    plan = planning.make(catalog, config, seed=seed, devices=world_size)
    perturb = None
    if config.perturb is not None:
        perturb = open_perturbation(config.perturb, folder, seed=seed, sample_rate=sample_rate, cache=config.cache)
    reader = _reader(catalog, config, task, sample_rate, perturb)
    return _loader(reader, config, _Endless(plan=plan, skip=skip, rank=rank))


def validation_batches(
    config: DataConfig, *, task: Any, sample_rate: int, rank: int = 0, world_size: int = 1, folder: Path | None = None
) -> DataLoader[Loaded]:
    """Batches of all examples, once, the longest first, without perturbation; each rank gets every `world_size`-th batch.

    The ranks get as many, for they wait for each other: the last of some may be without examples, and so is one whose examples
    are all bad.

    Arguments and errors are those of `training_batches`.
    """
    config = evolve(config, shuffle=False, perturb=None)
    catalog = _open(config, folder or Path(), task, "validation")
    plan = planning.make(catalog, config, seed=0, devices=1)
    batches = sorted(plan.epoch(0), key=lambda pick: -float(catalog.seconds[pick.examples].max()))
    nothing = [pick.take(slice(0)) for pick in batches[:1]] * (-len(batches) % world_size)
    reader = evolve(_reader(catalog, config, task, sample_rate), stands_in=False)
    return _loader(reader, config, [*batches, *nothing][rank::world_size])


def _open(config: DataConfig, folder: Path, task: Any, what: str) -> Catalog:
    catalog = open_catalog(config, folder, _token_count(task), needs_text=hasattr(task, "tokenizer"))
    log.info("%s: %d examples, %s", what, len(catalog), duration(float(catalog.seconds.sum())))
    for reason, number in catalog.left_out.items():
        log.info("%s: %d examples are left out: %s", what, number, reason)
    FaultLog().add(catalog.faults)
    return catalog


def _token_count(task: Any) -> Callable[[str], int] | None:
    tokenizer = getattr(task, "tokenizer", None)
    if tokenizer is None:
        return None

    def count(text: str) -> int:
        try:
            return len(tokenizer.encode(text))
        except ValueError:  # of a character it does not know, which the task tells of
            return len(text)

    return count


def _reader(catalog: Catalog, config: DataConfig, task: Any, sample_rate: int, perturb: Perturbation | None = None) -> Reader:
    speeds = config.perturb.speed if config.perturb is not None else []
    found = recordings(catalog, sample_rate=sample_rate, channel=config.channel, speeds=speeds, cache=config.cache)
    return Reader(recordings=found, task=task, on_bad=config.on_bad, perturb=perturb)


def _loader(reader: Reader, config: DataConfig, picks: Iterable[Pick]) -> DataLoader[Loaded]:
    ahead: dict[str, Any] = {}
    if config.num_workers:
        # A fork starts at once and shares what is in memory, torch included; macOS cannot fork safely.
        start = None if sys.platform == "darwin" else "fork"
        ahead = {"prefetch_factor": config.prefetch_factor, "multiprocessing_context": start, "persistent_workers": True}
        ahead["worker_init_fn"] = _outlast_signals
    loader = _Loader(reader, batch_size=None, sampler=picks, num_workers=config.num_workers, **ahead)
    loader.faults = reader.recordings.catalog.faults
    return loader


def _outlast_signals(_: int) -> None:
    """A terminal, and what runs jobs, tell all processes of a run to end. Those that read ahead leave it to the one that trains,
    which has something to write first: they pass over Ctrl-C, and over SIGTERM once. The second is of the one that trains."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _: signal.signal(number, signal.SIG_DFL))
