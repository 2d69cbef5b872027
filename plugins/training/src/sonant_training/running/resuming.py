"""Which checkpoint a run goes on from."""

from __future__ import annotations

import logging
from pathlib import Path

from sonant.errors import ConfigError
from sonant_training.running import saving
from sonant_training.running.config import ExperimentConfig
from sonant_training.running.experiment import Places

log = logging.getLogger(__name__)


def checkpoint(config: ExperimentConfig, places: Places) -> Path | None:
    """The file to go on from, the newest that is whole; None begins anew.

    Raises:
        ConfigError: `resume_from` is not there.
    """
    if config.resume_from is not None:
        path = Path(config.resume_from).expanduser()
        if not path.exists():
            raise ConfigError(f"exp_manager.resume_from: there is no {path}")
        return path
    if not config.resume_if_exists:
        return None
    newest_first = sorted(places.checkpoints.glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in newest_first:
        if saving.is_whole(path):
            return path
        log.warning("%s is not whole; going on from an older one", path)
    return None
