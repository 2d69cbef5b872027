"""Features or codes to audio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class Vocoder(Protocol):
    """Features to a waveform.

    Built with `d_in`, the number of feature bins. `sample_rate` is that of the audio it makes, in Hz, and `upsampling` the number
    of samples it makes of a frame. Features arrive as float32 and are cast to the dtype of its weights.
    """

    d_in: int
    sample_rate: int
    upsampling: int

    def __call__(self, feats: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, T, F)`, `(B,)` to `(B, N)`, `(B,)`."""
        ...


@runtime_checkable
class Codec(Protocol):
    """A waveform to discrete codes, and back.

    `sample_rate` is that of the audio, in Hz, `frame_rate` the number of frames that a second has. A frame has a code of each of
    `n_codebooks` codebooks, `0 … codebook_size - 1`. Audio arrives as float32 and is cast to the dtype of its weights.
    """

    sample_rate: int
    frame_rate: float
    n_codebooks: int
    codebook_size: int

    def encode(self, wav: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, N)`, `(B,)` to codes `(B, T, Q)` int64, `(B,)`."""
        ...

    def decode(self, codes: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """Codes `(B, T, Q)` int64, `(B,)` to `(B, N)`, `(B,)`. What was encoded comes back as long as it was, up to a frame."""
        ...
