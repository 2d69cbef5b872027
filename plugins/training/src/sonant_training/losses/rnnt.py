"""The loss of an RNN transducer."""

from __future__ import annotations

from torch import Tensor, nn

from sonant import kernels
from sonant_training.losses.config import RnntLossConfig
from sonant_training.losses.reduction import reduce, without_infinite


class RnntLoss(nn.Module):
    """RNN transducer (Graves, 2012): how unlikely the labels are, over all their alignments.

    The blank is the last label. The reduction is the config's: by default the mean over the utterances. With
    `fastemit_lambda` (FastEmit, Yu et al., 2021) labels get more gradient than blanks.

    Args:
        config: an `RnntLossConfig`.
        vocab_size: labels without the blank.
    """

    def __init__(self, config: RnntLossConfig, *, vocab_size: int) -> None:
        super().__init__()
        self.config, self.blank = config, vocab_size

    def forward(self, logits: Tensor, lens: Tensor, labels: Tensor, label_lens: Tensor) -> Tensor:
        """Logits `(B, T, U + 1, V + 1)`, `(B,)`, labels `(B, U)`, `(B,)` to a scalar.

        Raises:
            ValueError: the logits are of another shape.
        """
        check_shape(logits, labels, self.blank + 1, f"of {self.blank} labels and the blank")
        compute = kernels.get("transducer_loss", logits.device.type)
        how = {"fastemit_lambda": self.config.fastemit_lambda, "reuse_logits": self.config.reuse_logits}
        losses: Tensor = compute(logits, labels, lens, label_lens, **how)
        if self.config.zero_infinity:
            losses = without_infinite(losses)
        return reduce(losses, label_lens, self.config.reduction)


def check_shape(logits: Tensor, labels: Tensor, outputs: int, what: str) -> None:
    """Raise a `ValueError` for logits that are not those of a transducer."""
    wanted = (labels.shape[0], labels.shape[1] + 1, outputs)
    if logits.ndim != 4 or (logits.shape[0], *logits.shape[2:]) != wanted:
        raise ValueError(
            f"a transducer's loss needs logits (B, T, U + 1, {outputs}), {what}, behind labels (B, U) of shape "
            f"{tuple(labels.shape)}, not {tuple(logits.shape)}"
        )
