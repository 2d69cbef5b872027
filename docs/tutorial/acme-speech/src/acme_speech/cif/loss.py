"""The loss."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from acme_speech.cif.config import CifLossConfig
from sonant import lengths


class CifLoss(nn.Module):
    """Cross entropy, averaged over all labels of the batch, plus `quantity_weight` times the quantity loss, averaged over its
    recordings: by how much the weights' sum misses the number of labels."""

    def __init__(self, config: CifLossConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, logits: Tensor, quantity: Tensor, labels: Tensor, label_lens: Tensor) -> Tensor:
        """`(B, U, V)`, `(B,)`, `(B, U)`, `(B,)` to a scalar."""
        valid = lengths.mask(label_lens, labels.shape[1])
        entropy = functional.cross_entropy(logits[valid].float(), labels[valid], reduction="sum") / valid.sum().clamp(min=1)
        return entropy + self.config.quantity_weight * (quantity - label_lens).abs().mean()
