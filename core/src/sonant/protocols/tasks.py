"""Models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

    from sonant.training import Example, Score


@runtime_checkable
class Trainable(Protocol):
    """A task model that can be trained. Its parts are its attributes, by the keys of its spec's `parts`.

    An example becomes something to learn from in `prepare`, and several of these a batch in `collate`. Both run in other
    processes ahead of the training, so they work on the CPU and use nothing that training changes. A batch has `to(device)`.
    """

    def prepare(self, example: Example) -> Any:
        """What the model learns of an example. A `ValueError` says why it can learn nothing of this one."""
        ...

    def collate(self, prepared: Sequence[Any]) -> Any:
        """A batch of what `prepare` gave."""
        ...

    def loss(self, batch: Any, **parts: Any) -> dict[str, Tensor]:
        """Scalars by name: `loss` is the one to minimize, a mean over the batch, and the others are what it is made of.

        `parts` are those of the spec's `training`, by their keys.
        """
        ...

    def score(self, batch: Any) -> list[Score]:
        """How well the model does on each example of a batch, used as it would be after training. Called in eval mode."""
        ...


@runtime_checkable
class Exportable(Protocol):
    """A task model that `sonant.export` can write as graphs for other runtimes."""

    def graphs(self, **options: Any) -> Any:
        """A `sonant.exporting.Export`: its graphs, and what is needed to use them. Options are those that the task offers."""
        ...


@runtime_checkable
class Decoding(Protocol):
    """A task model that can go on from the frames of its encoder, so that `sonant bench` times either way by itself."""

    def decode(self, enc: Tensor, lens: Tensor) -> Sequence[Any]:
        """Encoder frames `(B, T, D)`, `(B,)` to a result for each recording, as `infer` gives, but for where it came from."""
        ...


@runtime_checkable
class Task(Protocol):
    """A model with its task's own verb (`transcribe`, `diarize`, …) on top of `infer`.

    `target` is the class; the builder calls its `from_parts` and sets `blueprint`, the `sonant.build.Blueprint` of what it was
    built from.
    """

    blueprint: Any

    @classmethod
    def from_parts(cls, config: Any, parts: dict[str, Any]) -> Task:
        """The model made of its parts, which come by the keys of the spec's `parts`; optional ones may be absent."""
        ...

    def infer(self, batch: Any) -> Sequence[Any]:
        """A result for each recording of a `sonant.runtime.Batch`, in order."""
        ...
