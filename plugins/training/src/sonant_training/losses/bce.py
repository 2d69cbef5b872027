"""Binary cross entropy."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from sonant import lengths
from sonant_training.losses.config import BceConfig


class BceLoss(nn.Module):
    """Binary cross entropy of logits, as of who speaks at each frame: the mean over all valid frames and their outputs.

    Args:
        config: a `BceConfig`.
    """

    def __init__(self, config: BceConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, pred: Tensor, target: Tensor, lens: Tensor) -> Tensor:
        """Logits `(B, T, F)`, targets `(B, T, F)` from 0 to 1, `(B,)` to a scalar."""
        valid = lengths.mask(lens, pred.shape[1])
        found, wanted = pred[valid].float(), target[valid].float()  # (N, F)
        weight = found.new_tensor(self.config.pos_weight)
        entropy = functional.binary_cross_entropy_with_logits(found, wanted, pos_weight=weight, reduction="sum")
        return entropy / max(found.numel(), 1)
