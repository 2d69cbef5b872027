"""The loss of a token-and-duration transducer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sonant import kernels
from sonant_training.losses.config import TdtLossConfig
from sonant_training.losses.reduction import reduce, without_infinite
from sonant_training.losses.rnnt import check_shape


class TdtLoss(nn.Module):
    """Token-and-duration transducer (Xu et al., 2023): how unlikely the labels are, over all their alignments and durations.

    The blank is the last label, and the durations stand behind it. The reduction is the config's: by default the mean over the
    utterances. In training a share `omega` of the batches, chosen by torch's generator, is compared as an RNN transducer's.

    Args:
        config: a `TdtLossConfig`.
        vocab_size: labels without the blank.
        decoder: the head it is for, where that is known.

    Raises:
        ValueError: the head has other durations.
    """

    def __init__(self, config: TdtLossConfig, *, vocab_size: int, decoder: Any = None) -> None:
        super().__init__()
        self.config, self.blank = config, vocab_size
        of_head = list(getattr(decoder, "durations", config.durations))
        if of_head != config.durations:
            raise ValueError(f"durations {config.durations} must be those of the head, which are {of_head or 'none'}")

    def forward(self, logits: Tensor, lens: Tensor, labels: Tensor, label_lens: Tensor) -> Tensor:
        """Logits `(B, T, U + 1, V + 1 + D)`, `(B,)`, labels `(B, U)`, `(B,)` to a scalar.

        Raises:
            ValueError: the logits are of another shape.
        """
        durations = self.config.durations
        outputs = self.blank + 1 + len(durations)
        check_shape(logits, labels, outputs, f"of {self.blank} labels, the blank and the durations {durations}")
        how: dict[str, Any] = {"durations": durations, "sigma": self.config.sigma}
        if self.training and self.config.omega and torch.rand(()).item() < self.config.omega:
            how = {"ignored": len(durations)}
        compute = kernels.get("transducer_loss", logits.device.type)
        how |= {"fastemit_lambda": self.config.fastemit_lambda, "reuse_logits": self.config.reuse_logits}
        losses: Tensor = compute(logits, labels, lens, label_lens, **how)
        if self.config.zero_infinity:
            losses = without_infinite(losses)
        return reduce(losses, label_lens, self.config.reduction)
