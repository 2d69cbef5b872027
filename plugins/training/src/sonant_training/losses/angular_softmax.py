"""Softmax with an additive angular margin."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from sonant import lengths
from sonant_training.losses.config import AngularSoftmaxConfig

_EPS = 1e-7  # the slope of an arc cosine is infinite at 1


class AngularSoftmaxLoss(nn.Module):
    """ArcFace (Deng et al., 2019): cross entropy of scaled cosines, of which that of the right class counts as of an angle wider
    by a margin. The mean over all targets of the batch.

    Args:
        config: an `AngularSoftmaxConfig`.
    """

    def __init__(self, config: AngularSoftmaxConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, logits: Tensor, targets: Tensor, target_lens: Tensor) -> Tensor:
        """Cosines `(B, U, C)`, targets `(B, U)`, `(B,)` to a scalar."""
        valid = lengths.mask(target_lens, targets.shape[1])
        cosines, classes = logits[valid].float(), targets[valid][:, None]  # (N, C), (N, 1)
        angle = cosines.gather(1, classes).clamp(_EPS - 1, 1 - _EPS).acos()
        scores = self.config.scale * cosines.scatter(1, classes, (angle + self.config.margin).cos())
        return functional.cross_entropy(scores, classes[:, 0], reduction="sum") / max(len(classes), 1)
