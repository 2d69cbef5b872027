"""A batch as it comes from a loader, with what is known of it."""

from __future__ import annotations

from typing import Any

from attrs import evolve, frozen

from sonant_training.data.faults import Fault


@frozen(kw_only=True, eq=False)
class Loaded:
    """What the task made of some examples.

    `seconds` is their audio together, `padded_seconds` with what they are padded with, `examples` their number, `epoch` the epoch
    that they are of, from 0. `faults` are those that are missing because they are bad. Of a batch without examples, which only a
    validation has, `batch` is None.
    """

    batch: Any
    seconds: float
    padded_seconds: float
    examples: int
    epoch: int
    faults: tuple[Fault, ...] = ()

    def to(self, device: Any) -> Loaded:
        """The same with its batch on a device."""
        return self if self.batch is None else evolve(self, batch=self.batch.to(device))
