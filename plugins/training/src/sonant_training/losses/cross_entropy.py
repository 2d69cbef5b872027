"""Cross entropy, with label smoothing."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from sonant import lengths
from sonant_training.losses.config import CrossEntropyConfig


class CrossEntropyLoss(nn.Module):
    """How unlikely the targets are, the mean over all targets of the batch.

    With `label_smoothing` s the target should have the probability 1 - s, and the others share s evenly (Szegedy et al., 2016).

    Args:
        config: a `CrossEntropyConfig`.
    """

    def __init__(self, config: CrossEntropyConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, logits: Tensor, targets: Tensor, target_lens: Tensor) -> Tensor:
        """Logits `(B, U, C)`, targets `(B, U)`, `(B,)` to a scalar."""
        valid = lengths.mask(target_lens, targets.shape[1])
        scores = functional.log_softmax(logits[valid].float(), dim=-1)  # (N, C)
        right = scores.gather(-1, targets[valid][:, None]).sum()
        count = valid.sum().clamp(min=1)
        given = self.config.label_smoothing
        if not given:
            return -right / count
        others = (scores.sum() - right) / (logits.shape[-1] - 1)
        return -((1 - given) * right + given * others) / count
