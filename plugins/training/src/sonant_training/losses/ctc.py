"""The CTC loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sonant_training.losses.config import CtcLossConfig
from sonant_training.losses.reduction import reduce


class CtcLoss(nn.Module):
    """Connectionist temporal classification (Graves et al., 2006): how unlikely the labels are, over all their alignments.

    The blank is the last label. The reduction is the config's: by default the mean over the utterances. Computed in float32.

    Args:
        config: a `CtcLossConfig`.
        vocab_size: labels without the blank.
    """

    def __init__(self, config: CtcLossConfig, *, vocab_size: int) -> None:
        super().__init__()
        self.config, self.blank = config, vocab_size

    def forward(self, logits: Tensor, lens: Tensor, labels: Tensor, label_lens: Tensor) -> Tensor:
        """Logits `(B, T, V + 1)`, `(B,)`, labels `(B, U)`, `(B,)` to a scalar.

        Raises:
            ValueError: the logits are of another shape.
        """
        if logits.ndim != 3 or logits.shape[-1] != self.blank + 1:
            shape = tuple(logits.shape)
            raise ValueError(f"ctc needs logits (B, T, {self.blank + 1}), of {self.blank} labels and the blank, not {shape}")
        scores = functional.log_softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))
        losses = functional.ctc_loss(
            scores.transpose(0, 1),
            labels,
            lens,
            label_lens,
            blank=self.blank,
            reduction="none",
            zero_infinity=self.config.zero_infinity,
        )
        return reduce(losses, label_lens, self.config.reduction)
