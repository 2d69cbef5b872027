"""Which of several processes this is, before Lightning knows; what starts them says so in the environment."""

from __future__ import annotations

import os

_RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "LOCAL_RANK")
_SIZES = ("WORLD_SIZE", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")


def rank() -> int:
    """Of this process, from 0. The first writes down what others only compute."""
    return next((_number(name, 0) for name in _RANKS if name in os.environ), 0)


def started_together() -> bool:
    """Whether a launcher, as torchrun or Slurm's srun, has started several processes at once.

    Lightning starts the others itself, after the first has begun its run.
    """
    return any(name in os.environ for name in _RANKS[:3]) and any(_number(name, 1) > 1 for name in _SIZES)


def _number(name: str, otherwise: int) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else otherwise
