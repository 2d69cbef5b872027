"""RNN-T (Graves, 2012) and TDT (Xu et al., 2023) heads: a prediction network, a joint network."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from sonant_asr.transducer.config import RnntConfig
from sonant_asr.transducer.joint import HatJoint, Joint
from sonant_asr.transducer.prediction import Prediction, StatelessPrediction


class Transducer(nn.Module):
    """A transducer head; with durations in its config, a token-and-duration transducer.

    Args:
        config: an `RnntConfig` or `TdtConfig`.
        d_in: width of the encoder.
        vocab_size: labels without the blank.
    """

    search = "transducer_greedy"
    beam_search = "transducer_beam"

    def __init__(self, config: RnntConfig, *, d_in: int, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.d_in, self.vocab_size, self.blank = d_in, vocab_size, vocab_size
        self.durations = tuple(config.durations)
        self.prediction = _prediction(config, vocab_size)
        self.joint = _joint(config, d_in, vocab_size)

    @property
    def family(self) -> Literal["rnnt", "tdt"]:
        """Which of the two it is."""
        return "tdt" if self.durations else "rnnt"

    def forward(self, enc: Tensor, labels: Tensor) -> Tensor:
        """`(B, T, D)`, labels `(B, U)` to logits `(B, T, U + 1, V + 1 + durations)`, for the loss."""
        return self.joint(enc, self.prediction(labels))


def _prediction(config: RnntConfig, vocab_size: int) -> Prediction | StatelessPrediction:
    if config.prediction == "lstm":
        return Prediction(vocab_size, config.pred_hidden, config.pred_rnn_layers, config.dropout)
    normalize = config.normalization_mode == "layer"
    return StatelessPrediction(vocab_size, config.pred_hidden, config.context_size, normalize=normalize, dropout=config.dropout)


def _joint(config: RnntConfig, d_in: int, vocab_size: int) -> Joint | HatJoint:
    widths = d_in, config.pred_hidden, config.joint_hidden
    if config.joint == "hat":
        return HatJoint(*widths, vocab_size, activation=config.activation, dropout=config.joint_dropout)
    outputs = vocab_size + 1 + len(config.durations)
    return Joint(*widths, outputs, activation=config.activation, dropout=config.joint_dropout)
