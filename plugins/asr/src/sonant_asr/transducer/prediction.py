"""Prediction networks of transducers: the labels so far to a vector.

A state is what a network remembers of the labels it has seen: a tuple of tensors whose second dimension goes over the rows
(utterances, hypotheses), so that all states are picked and put together alike, whatever the network. None is the state
before the first label.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

State = tuple[Tensor, ...]


def select(state: State | None, rows: Tensor) -> State | None:
    """The state of some of the rows, which may repeat."""
    return None if state is None else tuple(part[:, rows] for part in state)


def stack(states: Sequence[State]) -> State:
    """One state of the rows of all, in order."""
    return tuple(torch.cat(parts, dim=1) for parts in zip(*states, strict=True))


class Prediction(nn.Module):
    """An embedding and an LSTM. The blank, which is also the start, embeds to zero."""

    def __init__(self, vocab_size: int, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size + 1, width, padding_idx=vocab_size)
        self.lstm = nn.LSTM(width, width, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.dropout = nn.Dropout(dropout)

    def forward(self, labels: Tensor) -> Tensor:
        """`(B, U)` label ids to `(B, U + 1, P)`: what is predicted before each label and after the last."""
        start = labels.new_full((labels.shape[0], 1), self.embed.num_embeddings - 1)
        return self.step(torch.cat([start, labels], dim=1), None)[0]

    def step(self, labels: Tensor, state: State | None) -> tuple[Tensor, State]:
        """`(B, U)` more labels to `(B, U, P)` and the next state."""
        out, state = self.lstm(self.embed(labels), state)
        return self.dropout(out), state

    def one(self, labels: Tensor, state: State | None) -> tuple[Tensor, State]:
        """One more label for each row, `(R,)` to `(R, P)` and the next state. A step at a time, the bare cells are faster."""
        x = self.embed(labels)
        shape = (self.lstm.num_layers, labels.shape[0], x.shape[-1])
        h, c = state if state is not None else (x.new_zeros(shape), x.new_zeros(shape))
        outputs, cells = [], []
        for layer, weights in enumerate(self.lstm.all_weights):
            x, cell = torch.lstm_cell(x, (h[layer], c[layer]), *weights)
            outputs.append(x)
            cells.append(cell)
        return self.dropout(x), (torch.stack(outputs), torch.stack(cells))


class StatelessPrediction(nn.Module):
    """Embeddings of the last labels side by side, and no memory beyond them (Ghodsi et al., 2020).

    Each position has an embedding of its own, the last label's being the widest. The blank, which is also the start and what
    came before it, embeds to zero. The state is the labels before the next one, `(context - 1, R)`.

    Args:
        vocab_size: labels without the blank.
        width: of all embeddings together.
        context: how many labels count.
        normalize: whether the vector is brought to mean 0 and variance 1.
        dropout: in training.
    """

    def __init__(self, vocab_size: int, width: int, context: int, *, normalize: bool, dropout: float) -> None:
        super().__init__()
        earlier = width // 2 // context
        widths = [width - earlier * (context - 1)] + [earlier] * (context - 1)
        self.embeds = nn.ModuleList(nn.Embedding(vocab_size + 1, size, padding_idx=vocab_size) for size in widths)
        self.norm = nn.LayerNorm(width, elementwise_affine=False) if normalize else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.blank = vocab_size

    def forward(self, labels: Tensor) -> Tensor:
        """`(B, U)` label ids to `(B, U + 1, P)`: what is predicted before each label and after the last."""
        start = labels.new_full((labels.shape[0], 1), self.blank)
        return self.step(torch.cat([start, labels], dim=1), None)[0]

    def step(self, labels: Tensor, state: State | None) -> tuple[Tensor, State]:
        """`(B, U)` more labels to `(B, U, P)` and the next state."""
        before, count = len(self.embeds) - 1, labels.shape[1]
        history = labels.new_full((before, len(labels)), self.blank) if state is None else state[0]
        seen = torch.cat([history.T, labels], dim=1)  # (B, context - 1 + U)
        vectors = [embed(seen[:, before - age : before - age + count]) for age, embed in enumerate(self.embeds)]
        return self.norm(self.dropout(torch.cat(vectors, dim=-1))), (seen[:, count:].T,)

    def one(self, labels: Tensor, state: State | None) -> tuple[Tensor, State]:
        """One more label for each row, `(R,)` to `(R, P)` and the next state."""
        out, state = self.step(labels[:, None], state)
        return out[:, 0], state
