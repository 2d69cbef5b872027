"""The position-wise feed-forward module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from sonant_encoders.blocks.dropout import Dropout
from sonant_encoders.blocks.linear import Linear

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"silu": functional.silu, "relu": functional.relu, "gelu": functional.gelu}


class FeedForward(nn.Module):
    """Linear, activation, dropout, linear."""

    def __init__(
        self,
        width: int,
        hidden: int,
        *,
        activation: Literal["silu", "relu", "gelu"] = "silu",
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.linear1 = Linear(width, hidden, bias=bias)
        self.linear2 = Linear(hidden, width, bias=bias)
        self.dropout = Dropout(dropout)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """`(B, T, D)` to `(B, T, D)`."""
        x = self.linear1(x)
        x = self.dropout.of_silu(x) if self.activation is functional.silu else self.dropout(self.activation(x))
        return self.linear2(x)
