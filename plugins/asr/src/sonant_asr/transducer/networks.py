"""What the networks say to many hypotheses, a row each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from attrs import frozen
from torch import Tensor

from sonant_asr.transducer.model import Transducer
from sonant_asr.transducer.prediction import State, select, stack


@frozen
class Predictions:
    """What is predicted in each row, `(R, J)`, projected for the joint network, and the state behind it."""

    vectors: Tensor
    state: State

    @classmethod
    def start(cls, decoder: Transducer, rows: int, device: torch.device) -> Self:
        """Before the first label."""
        out, state = decoder.prediction.one(torch.full((rows,), decoder.blank, device=device), None)
        return cls(decoder.joint.pred(out), state)

    @classmethod
    def together(cls, parts: Sequence[Self]) -> Self:
        """The rows of all, in order."""
        return cls(torch.cat([part.vectors for part in parts]), stack([part.state for part in parts]))

    def take(self, index: Tensor) -> Self:
        """The rows at `index`, which may repeat."""
        state = select(self.state, index)
        assert state is not None
        return type(self)(self.vectors[index], state)

    def after(self, decoder: Transducer, labels: Tensor) -> Self:
        """Each row with one more label `(R,)`."""
        out, state = decoder.prediction.one(labels, self.state)
        return type(self)(decoder.joint.pred(out), state)

    def replace(self, index: Tensor, rows: Self) -> Self:
        """These, with others at `index`."""
        state = tuple(old.index_copy(1, index, new) for old, new in zip(self.state, rows.state, strict=True))
        return type(self)(self.vectors.index_copy(0, index, rows.vectors), state)


def log_probs(decoder: Transducer, enc: Tensor, pred: Tensor) -> tuple[Tensor, Tensor]:
    """Projected vectors `(…, J)` to log-probabilities of labels `(…, V + 1)` and of durations, `(…, 0)` where there are none."""
    labels, durations = decoder.joint.scores(enc, pred).float().tensor_split([decoder.blank + 1], dim=-1)
    return labels.log_softmax(-1), durations.log_softmax(-1)
