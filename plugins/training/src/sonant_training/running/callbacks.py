"""What happens beside the steps of a run, put together. Each callback has a file of its own."""

from __future__ import annotations

from lightning.pytorch import Callback

from sonant_training.running import averaging, checkpoints, guards, stopping
from sonant_training.running.experiment import Places
from sonant_training.running.faults import Faults
from sonant_training.running.pictures import Pictures
from sonant_training.running.progress import Progress
from sonant_training.running.reading import Run
from sonant_training.running.samples import Samples


def of(run: Run, places: Places) -> list[Callback]:
    """The callbacks of a run that is written down, in the order in which they are called."""
    config, validates = run.experiment, bool(run.validation)
    found: list[Callback] = [*averaging.callbacks(config.ema), Progress(), Faults(places.left_out)]
    if config.samples:
        found.append(Samples(config.samples))
    if config.pictures and config.tensorboard:
        found.append(Pictures())
    found += stopping.callbacks(config, validates=validates)
    found += guards.callbacks(places, config.max_bad_steps)
    return [*found, *checkpoints.callbacks(config.checkpoints, places.newest, validates=validates)]
