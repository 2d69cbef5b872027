"""What a stream of log-mel features remembers between pieces."""

from __future__ import annotations

import torch
from attrs import evolve, frozen
from torch import Tensor


@frozen
class StreamState:
    """The position of one stream.

    `pending` are samples `(P,)` behind pre-emphasis, from where the next frame begins; `before` is the last sample as it came,
    `(1,)`; `samples` and `frames` count what has come and gone.
    """

    pending: Tensor
    before: Tensor
    samples: int = 0
    frames: int = 0

    def fed(self, piece: Tensor, emphasis: float | None) -> StreamState:
        """With more samples `(N,)`."""
        came = torch.cat([self.before, piece])
        new = piece if emphasis is None else piece - emphasis * came[:-1]
        return StreamState(torch.cat([self.pending, new]), came[-1:].clone(), self.samples + len(piece), self.frames)

    def given(self, frames: int, hop: int) -> StreamState:
        """Without what only so many frames have needed."""
        return evolve(self, pending=self.pending[frames * hop :].clone(), frames=self.frames + frames)
