"""Joint networks of transducers: what the encoder hears at a frame and what the labels so far predict, to scores of the next."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

_ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
_LEAST = math.log(1e-6)  # the least probability of a label at all, as NeMo has it


class Joint(nn.Module):
    """Encoder and prediction vectors to scores of labels, blank last, and then of durations.

    Args:
        d_enc: width of the encoder.
        d_pred: width of the prediction network.
        width: of the vectors that both are projected to, and added.
        outputs: scores.
        activation: on the sum.
        dropout: behind it, in training.
    """

    def __init__(self, d_enc: int, d_pred: int, width: int, outputs: int, *, activation: str, dropout: float) -> None:
        super().__init__()
        self.enc = nn.Linear(d_enc, width)
        self.pred = nn.Linear(d_pred, width)
        self.out = nn.Linear(width, outputs)
        self.activation = _ACTIVATIONS[activation]
        self.dropout = nn.Dropout(dropout)

    def forward(self, enc: Tensor, pred: Tensor) -> Tensor:
        """`(B, T, D)`, `(B, U, P)` to logits `(B, T, U, V + 1 + durations)`."""
        return self.scores(self.enc(enc)[:, :, None], self.pred(pred)[:, None])

    def scores(self, enc: Tensor, pred: Tensor) -> Tensor:
        """The same from vectors that `self.enc` and `self.pred` have projected already, `(…, J)` each."""
        return self.out(self.dropout(self.activation(enc + pred)))


class HatJoint(nn.Module):
    """The joint network of a hybrid autoregressive transducer (Variani et al., 2020).

    Whether the next label is the blank is decided by itself, and what else it is by a softmax without the blank. The scores are
    log-probabilities already.

    Args:
        d_enc, d_pred, width, activation, dropout: as those of `Joint`.
        vocab_size: labels without the blank.
    """

    def __init__(self, d_enc: int, d_pred: int, width: int, vocab_size: int, *, activation: str, dropout: float) -> None:
        super().__init__()
        self.enc = nn.Linear(d_enc, width)
        self.pred = nn.Linear(d_pred, width)
        self.out = nn.Linear(width, vocab_size)
        self.blank = nn.Linear(width, 1)
        self.activation = _ACTIVATIONS[activation]
        self.dropout = nn.Dropout(dropout)

    def forward(self, enc: Tensor, pred: Tensor) -> Tensor:
        """`(B, T, D)`, `(B, U, P)` to log-probabilities `(B, T, U, V + 1)`, blank last."""
        return self.scores(self.enc(enc)[:, :, None], self.pred(pred)[:, None])

    def scores(self, enc: Tensor, pred: Tensor) -> Tensor:
        """The same from vectors that `self.enc` and `self.pred` have projected already, `(…, J)` each."""
        x = enc + pred
        exact = torch.promote_types(x.dtype, torch.float32)  # nearly certain labels have no other logarithm in 8 bits
        blank = self.blank(self.dropout(torch.tanh(x))).to(exact)  # (…, 1)
        labels = self.out(self.dropout(self.activation(x))).log_softmax(-1, dtype=exact)
        some = functional.logsigmoid(-blank).clamp(min=_LEAST)  # log(1 - P(blank))
        return torch.cat([labels + some, functional.logsigmoid(blank)], dim=-1)
