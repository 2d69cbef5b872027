"""The CTC head."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from sonant_asr.ctc.config import CtcConfig


class CtcHead(nn.Module):
    """Scores of every label at every frame (Graves et al., 2006). The blank is the last label.

    Args:
        config: empty.
        d_in: width of the encoder.
        vocab_size: labels without the blank.
    """

    family: ClassVar = "ctc"
    search: ClassVar = "ctc_greedy"
    beam_search: ClassVar = "ctc_beam"

    def __init__(self, config: CtcConfig, *, d_in: int, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.d_in, self.vocab_size, self.blank = d_in, vocab_size, vocab_size
        self.out = nn.Linear(d_in, vocab_size + 1)

    def forward(self, enc: Tensor) -> Tensor:
        """`(B, T, D)` to logits `(B, T, V + 1)`."""
        return self.out(enc)
