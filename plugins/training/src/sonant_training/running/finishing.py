"""What a run leaves: the model, ready to be used."""

from __future__ import annotations

import logging
from pathlib import Path

from torch import nn

import sonant
from sonant_training.running import averaging, saving
from sonant_training.running.experiment import Places
from sonant_training.running.module import Training
from sonant_training.tuning.preparing import mergeable

log = logging.getLogger(__name__)


def take_weights(module: Training, checkpoint: str | Path) -> None:
    """Those of a checkpoint of the run into the model; their average, if the run averages."""
    stored = saving.read(checkpoint)
    module.load_state_dict(stored["state_dict"] | stored.get(averaging.KEY, {}))


def save_model(model: nn.Module, places: Places, *, nemo: bool) -> Path:
    """Write the model as a folder, and as a `.nemo` file if that is asked for."""
    model = mergeable(model).eval()
    sonant.save(model, places.model)
    hint = f": try `sonant transcribe FILE --model {places.model}`" if hasattr(model, "transcribe") else ""
    log.info("wrote %s%s", places.model, hint)
    if nemo:
        sonant.save(model, places.nemo)
        log.info("wrote %s", places.nemo)
    return places.model
