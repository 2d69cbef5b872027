"""Small layers put into a trained encoder, which alone are trained for a new domain (Houlsby et al., 2019)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from torch import Tensor, nn

from sonant_encoders.blocks.dropout import Dropout

_ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "hardtanh": nn.Hardtanh,
    "relu": nn.ReLU,
    "selu": nn.SELU,
    "swish": nn.SiLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


class LinearAdapter(nn.Module):
    """A bottleneck beside the stream: `x + up(activation(down(x)))`, normalized at one end. At the start it adds nothing.

    Args:
        width: of the stream.
        hidden: of the bottleneck.
        activation: between the two.
        norm: `pre`, of what goes in, or `post`, of what is added.
        dropout: on what is added, in training.
    """

    def __init__(
        self, width: int, hidden: int, *, activation: str = "swish", norm: Literal["pre", "post"] = "pre", dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.norm_first = norm == "pre"
        self.norm = nn.LayerNorm(width)
        self.down = nn.Linear(width, hidden, bias=False)
        self.activation = _ACTIVATIONS[activation]()
        self.up = nn.Linear(hidden, width, bias=False)
        self.dropout = Dropout(dropout)
        last = self.up if norm == "pre" else self.norm  # only the last: behind two that are zero nothing is learned
        for parameter in last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """`(…, D)` to `(…, D)`."""
        added = self.up(self.activation(self.down(self.norm(x) if self.norm_first else x)))
        return x + self.dropout(added if self.norm_first else self.norm(added))
