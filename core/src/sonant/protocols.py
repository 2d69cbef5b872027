"""What each kind of component looks like to the others. Structural: nothing has to be inherited.

Shapes: `B` batch, `N` samples, `T` frames, `F` feature bins, `D` width, `U` label length, `V` vocabulary.
Tensors are batch first and time second; lengths travel beside them as `(B,)` int64. Audio is mono
float32 in [-1, 1]. Frames at and beyond a recording's length are padding and must not change its result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from attrs import frozen

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class Preprocessor(Protocol):
    """Waveform to features."""

    d_out: int
    sample_rate: int
    frame_rate: float

    def __call__(self, wav: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, N)`, `(B,)` to `(B, T, F)`, `(B,)`."""
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

    Features arrive as float32, whatever the dtype of the encoder's weights, and are cast to it.
    """

    d_out: int
    subsampling: int

    def __call__(self, feats: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, T, F)`, `(B,)` to `(B, T', D)`, `(B,)`."""
        ...


@runtime_checkable
class StreamingEncoder(Encoder, Protocol):
    """An encoder that can be fed piece by piece and gives what the whole would give."""

    @property
    def streams(self) -> bool:
        """Whether this configuration is causal enough to stream."""
        ...

    def init_state(self, batch: int) -> Any:
        """The state before the first frame of `batch` recordings."""
        ...

    def step(self, feats: Tensor, lens: Tensor, state: Any, *, last: bool = False) -> tuple[Tensor, Tensor, Any]:
        """Feed `(B, T, F)` more frames, `lens` of them valid; returns what is final by now, `(B, T', D)`, `(B,)`, and the
        next state. Fewer valid frames than `T` are allowed in the last piece only, which may also be empty: a live source
        learns of its end late."""
        ...


@runtime_checkable
class Tokenizer(Protocol):
    """Text to ids and back. Ids are `0 … vocab_size - 1`; the blank of CTC and transducers comes after them."""

    vocab_size: int

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The token of each id as it is written, word boundary marks included."""
        ...


@frozen(kw_only=True)
class Hypothesis:
    """What a search found in one utterance: ids and the encoder frames each spans, `[start, end)`."""

    tokens: tuple[int, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    score: float = 0.0


@runtime_checkable
class Decoder(Protocol):
    """A head on an encoder. What else it offers depends on its family; `search` names the search that reads it.

    A module's `forward`, which training calls, declares those it needs of `enc` `(B, T, D)`, `lens` `(B,)`, `labels` `(B, U)`
    and `label_lens` `(B,)`, by these names.
    """

    d_in: int
    search: str


@runtime_checkable
class Search(Protocol):
    """Reads the best label sequences off a decoder. Has no weights; chosen when a model is used."""

    def __call__(self, decoder: Any, enc: Tensor, lens: Tensor) -> list[Hypothesis]:
        """`(B, T, D)`, `(B,)` to one hypothesis an utterance."""
        ...


class Trainable(Protocol):
    """A task model that can be trained."""

    def loss(self, batch: Any) -> dict[str, Tensor]:
        """Scalars by name; `loss` is the one to minimize."""
        ...


class Task(Protocol):
    """A model with its task's own verb (`transcribe`, `diarize`, …) on top of `infer`."""

    blueprint: Any

    @classmethod
    def from_parts(cls, config: Any, parts: dict[str, Any]) -> Task: ...

    def infer(self, batch: Any) -> Sequence[Any]: ...
