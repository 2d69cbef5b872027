"""RNN-T (Graves, 2012) and TDT (Xu et al., 2023) heads: a prediction network, a joint network."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from sonant_asr.transducer.config import RnntConfig

LstmState = tuple[Tensor, Tensor]

_ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}


class Prediction(nn.Module):
    """The labels so far to a vector: an embedding and an LSTM. The blank, which is also the start, embeds to zero."""

    def __init__(self, vocab_size: int, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size + 1, width, padding_idx=vocab_size)
        self.lstm = nn.LSTM(width, width, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.dropout = nn.Dropout(dropout)

    def forward(self, labels: Tensor) -> Tensor:
        """`(B, U)` label ids to `(B, U + 1, P)`: what is predicted before each label and after the last."""
        start = labels.new_full((labels.shape[0], 1), self.embed.num_embeddings - 1)
        return self.step(torch.cat([start, labels], dim=1), None)[0]

    def step(self, labels: Tensor, state: LstmState | None) -> tuple[Tensor, LstmState]:
        """`(B, U)` more labels to `(B, U, P)` and the next state."""
        out, state = self.lstm(self.embed(labels), state)
        return self.dropout(out), state

    def one(self, labels: Tensor, state: LstmState | None) -> tuple[Tensor, LstmState]:
        """One more label for each row, `(R,)` to `(R, P)` and the next state. A step at a time, the bare cells are faster."""
        x = self.embed(labels)
        shape = (self.lstm.num_layers, len(labels), x.shape[-1])
        h, c = state if state is not None else (x.new_zeros(shape), x.new_zeros(shape))
        outputs, cells = [], []
        for layer, weights in enumerate(self.lstm.all_weights):
            x, cell = torch.lstm_cell(x, (h[layer], c[layer]), *weights)
            outputs.append(x)
            cells.append(cell)
        return self.dropout(x), (torch.stack(outputs), torch.stack(cells))


class Joint(nn.Module):
    """Encoder and prediction vectors to scores of labels, blank last, and then of durations."""

    def __init__(self, config: RnntConfig, d_in: int, outputs: int) -> None:
        super().__init__()
        self.enc = nn.Linear(d_in, config.joint_hidden)
        self.pred = nn.Linear(config.pred_hidden, config.joint_hidden)
        self.out = nn.Linear(config.joint_hidden, outputs)
        self.activation = _ACTIVATIONS[config.activation]
        self.dropout = nn.Dropout(config.joint_dropout)

    def forward(self, enc: Tensor, pred: Tensor) -> Tensor:
        """`(B, T, D)`, `(B, U, P)` to logits `(B, T, U, V + 1 + durations)`."""
        return self.scores(self.enc(enc)[:, :, None], self.pred(pred)[:, None])

    def scores(self, enc: Tensor, pred: Tensor) -> Tensor:
        """The same from vectors that `self.enc` and `self.pred` have projected already, `(…, J)` each."""
        return self.out(self.dropout(self.activation(enc + pred)))


class Transducer(nn.Module):
    """A transducer head; with durations in its config, a token-and-duration transducer.

    Args:
        config: an `RnntConfig` or `TdtConfig`.
        d_in: width of the encoder.
        vocab_size: labels without the blank.
    """

    search = "transducer_greedy"

    def __init__(self, config: RnntConfig, *, d_in: int, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.d_in, self.vocab_size, self.blank = d_in, vocab_size, vocab_size
        self.durations = tuple(config.durations)
        self.prediction = Prediction(vocab_size, config.pred_hidden, config.pred_rnn_layers, config.dropout)
        self.joint = Joint(config, d_in, vocab_size + 1 + len(self.durations))

    @property
    def family(self) -> Literal["rnnt", "tdt"]:
        """Which of the two it is."""
        return "tdt" if self.durations else "rnnt"

    def forward(self, enc: Tensor, labels: Tensor) -> Tensor:
        """`(B, T, D)`, labels `(B, U)` to logits `(B, T, U + 1, V + 1 + durations)`, for the loss."""
        return self.joint(enc, self.prediction(labels))
