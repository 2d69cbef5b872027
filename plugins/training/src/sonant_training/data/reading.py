"""From a pick to a batch: reading, perturbing, and the task's own preparation. Runs in the processes that read ahead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from attrs import evolve, frozen
from torch.utils.data import Dataset

from sonant.audio import Samples
from sonant.training import Example
from sonant_training.data.faults import Fault
from sonant_training.data.loaded import Loaded
from sonant_training.data.planning import Pick, Place
from sonant_training.data.recordings import Recordings
from sonant_training.errors import DataError

_SUBSTITUTES = 100  # examples that are tried for a batch of which nothing is left


@frozen(kw_only=True, eq=False)
class Reader(Dataset[Loaded | DataError]):
    """Batches of what the task makes of examples, by their picks. `perturb` changes samples, if anything does.

    If all examples of a batch are bad, with `stands_in` the first that can be used of those that follow in the catalog stands in.
    Else the batch is without examples: in a validation each counts once.
    """

    recordings: Recordings
    task: Any
    on_bad: Literal["skip", "raise"]
    perturb: Callable[[Samples, Place], Samples] | None = None
    stands_in: bool = True

    def __getitem__(self, pick: Pick) -> Loaded | DataError:
        """A batch, or why the run cannot go on, which is raised where it is wanted: what a process that reads ahead raises comes
        out with all of its traceback in the text."""
        try:
            return self.load(pick)
        except DataError as error:
            return DataError(str(error))

    def load(self, pick: Pick) -> Loaded:
        """Read a batch.

        Raises:
            DataError: an example is bad and the config says to raise, or so are a hundred in a row.
        """
        faults: list[Fault] = []
        found = [one for place in pick.places() if (one := self._try(place, faults)) is not None]
        if not found and self.stands_in:
            found = [self._substitute(pick, faults)]
        prepared, lengths = [ready for ready, _ in found], [length for _, length in found]
        return Loaded(
            batch=self.task.collate(prepared) if prepared else None,
            seconds=sum(lengths) / self.recordings.sample_rate,
            padded_seconds=max(lengths, default=0) * len(lengths) / self.recordings.sample_rate,
            examples=len(found),
            epoch=pick.epoch,
            faults=tuple(faults),
        )

    def _substitute(self, pick: Pick, faults: list[Fault]) -> tuple[Any, int]:
        first = next(pick.places())
        for step in range(1, min(_SUBSTITUTES, len(self.recordings.catalog)) + 1):
            found = self._try(evolve(first, example=(first.example + step) % len(self.recordings.catalog)), faults)
            if found is not None:
                return found
        number = len({fault.where for fault in faults})
        raise DataError(f"{number} examples in a row cannot be used; the last: {faults[-1]}")

    def _try(self, place: Place, faults: list[Fault]) -> tuple[Any, int] | None:
        """What the task makes of an example, and how many samples it has; a bad one is noted."""
        row: dict[str, Any] = {}
        try:
            row = self.recordings.catalog.row(place.example)
            samples = self.recordings.read(place.example, row, place.speed)
            if self.perturb is not None:
                samples = self.perturb(samples, place)
            example = Example(samples=samples, row=row, name=_name(row))
            return self.task.prepare(example), len(samples)
        except (ValueError, OSError) as error:
            faults.append(Fault(self.recordings.catalog.where(place.example), _name(row), str(error)))
            if self.on_bad == "raise":
                raise DataError(f"{faults[-1]}; `on_bad: skip` leaves such out") from error
            return None


def _name(row: dict[str, Any]) -> str:
    return str(row.get("audio_filepath", ""))
