"""Audio to vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class Preprocessor(Protocol):
    """Waveform to features.

    `d_out` is the number of feature bins, `sample_rate` that of the audio it takes, in Hz, and `frame_rate` how many frames it
    makes of a second.
    """

    d_out: int
    sample_rate: int
    frame_rate: float

    def __call__(self, wav: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, N)`, `(B,)` to `(B, T, F)`, `(B,)`."""
        ...


@runtime_checkable
class StreamingPreprocessor(Preprocessor, Protocol):
    """A preprocessor that can be fed piece by piece and gives what it gives for the whole.

    Each stream has a state of its own, which goes in and comes out and is never written into. So streams may begin, wait and end
    as they like, and those that have something new share a batch; stacking is the component's business.
    """

    @property
    def streams(self) -> bool:
        """Whether this configuration can: none that measures the whole recording first."""
        ...

    def init_state(self) -> Any:
        """The state of a stream before its first sample. If this configuration does not stream, a `ValueError` says why."""
        ...

    def needs(self, state: Any, frames: int = 1) -> int:
        """How many more samples complete so many more frames, at least 1."""
        ...

    def step(
        self, wav: Tensor, lens: Tensor, states: Sequence[Any], *, last: Sequence[bool]
    ) -> tuple[Tensor, Tensor, Sequence[Any]]:
        """Feed `(B, N)` more samples, `lens` of them valid, to a stream each; returns the frames that are complete by now,
        `(B, T, F)`, `(B,)`, and the next states. `last` says which streams end with this piece; it may be empty, as any other."""
        ...


@runtime_checkable
class Augmentation(Protocol):
    """Changes features during training and only then."""

    def __call__(self, feats: Tensor, lens: Tensor) -> Tensor:
        """`(B, T, F)`, `(B,)` to `(B, T, F)`."""
        ...


@runtime_checkable
class Encoder(Protocol):
    """Features to a sequence of vectors, `subsampling` times fewer.

    Built with `d_in`, the number of feature bins; `d_out` is the width of its vectors. Features arrive as float32, whatever the
    dtype of the encoder's weights, and are cast to it.

    It may tell how it takes long recordings. `attends_to_all` is whether work grows with the square of the length; without, it
    is taken to. `memory(frames)` is about how many bytes a call takes at most for one recording of so many features, beside
    weights and features. With `takes_windows` the call and `memory` also take `att_context_size`, `[left, right]` in frames,
    beyond which attention does not see, and the call `progress`, a function of the part that is done.
    """

    d_out: int
    subsampling: int

    def __call__(self, feats: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, T, F)`, `(B,)` to `(B, T', D)`, `(B,)`.

        The lengths returned follow from `lens` alone, about `lens / subsampling`, rounded either way, and none exceeds `T'`.
        What lies behind them is not looked at. A length may be 0, in a batch or alone.
        """
        ...


@runtime_checkable
class LayeredEncoder(Encoder, Protocol):
    """An encoder that can also be heard after some of its layers, for losses in training. `depth` is how many it has."""

    @property
    def depth(self) -> int:
        """Layers, which are numbered from 0."""
        ...

    def with_layers(
        self, feats: Tensor, lens: Tensor, layers: Sequence[int]
    ) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
        """What a call gives; and behind each of `layers` `(B, T', D)`, `(B,)`, as if the encoder ended there."""
        ...


@runtime_checkable
class StreamingEncoder(Encoder, Protocol):
    """An encoder that can be fed piece by piece and gives what it gives for the whole.

    Each stream has a state of its own, as in a `StreamingPreprocessor`, and the result of a stream does not depend on those that
    it shares a batch with.

    `chunk`, `needs` and `step` of an encoder that was trained with several contexts, which look further or less far ahead, also
    take `att_context_size`, one of them, `[left, right]` in frames; None means its first. Others need not declare it.
    """

    @property
    def streams(self) -> bool:
        """Whether this configuration is causal enough to stream."""
        ...

    def init_state(self) -> Any:
        """The state of a stream before its first frame. If this configuration does not stream, a `ValueError` says why."""
        ...

    def chunk(self) -> int:
        """How many features there are from those that make frames final to those that make the next final."""
        ...

    def needs(self, state: Any) -> int:
        """How many more features make further frames final, at least 1."""
        ...

    def step(
        self, feats: Tensor, lens: Tensor, states: Sequence[Any], *, last: Sequence[bool]
    ) -> tuple[Tensor, Tensor, Sequence[Any]]:
        """Feed `(B, T, F)` more features, `lens` of them valid, to a stream each; returns what is final by now, `(B, T', D)`,
        `(B,)`, and the next states. `last` says which streams end with this piece; it may be empty, as any other: a live source
        learns of its end late."""
        ...
