"""The decoder: continuous integrate-and-fire (Dong and Xu, 2020, arXiv:1905.11235)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from acme_speech.cif.config import CifConfig
from acme_speech.cif.integrate import integrate
from sonant import lengths


class Cif(nn.Module):
    """Gives every frame a weight, adds frames up to tokens, and scores the labels of each token.

    Args:
        config: a `CifConfig`.
        d_in: width of the encoder.
        vocab_size: labels. There is no blank: silence weighs nothing.
    """

    family: ClassVar = "cif"
    search: ClassVar = "acme/cif_greedy"

    def __init__(self, config: CifConfig, *, d_in: int, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.d_in, self.vocab_size = d_in, vocab_size
        self.listen = nn.Conv1d(d_in, d_in, config.kernel_size, padding=config.kernel_size // 2)
        self.weigh = nn.Linear(d_in, 1)
        self.context = nn.Conv1d(d_in, d_in, config.context_size, padding=config.context_size // 2)
        self.norm = nn.LayerNorm(d_in)
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(d_in, vocab_size)

    def weights(self, enc: Tensor, lens: Tensor) -> Tensor:
        """`(B, T, D)`, `(B,)` to how much of a token each frame holds, `(B, T)` float32 in [0, 1], zero in the padding."""
        valid = lengths.mask(lens, enc.shape[1])
        x = enc.masked_fill(~valid[..., None], 0.0)
        x = functional.relu(self.listen(x.transpose(1, 2)).transpose(1, 2))
        return self.weigh(x).squeeze(-1).float().sigmoid().masked_fill(~valid, 0.0)

    def spell(self, enc: Tensor, weights: Tensor, counts: Tensor, most: int) -> Tensor:
        """Logits of `most` tokens, `(B, U, V)`, of which each recording has `counts` `(B,)`."""
        tokens = integrate(enc, weights, most)  # (B, U, D)
        if most:  # a convolution wants at least one
            tokens = tokens.masked_fill(~lengths.mask(counts, most)[..., None], 0.0)
            tokens = tokens + functional.relu(self.context(tokens.transpose(1, 2)).transpose(1, 2))
        return self.out(self.dropout(self.norm(tokens)))

    def forward(self, enc: Tensor, lens: Tensor, labels: Tensor, label_lens: Tensor) -> dict[str, Tensor]:
        """For training, where the number of labels is known: the weights are scaled to make that many tokens.

        `(B, T, D)`, `(B,)`, `(B, U)`, `(B,)` to `logits` `(B, U, V)` and `quantity` `(B,)`, the number of tokens that the
        weights would have made without.
        """
        weights = self.weights(enc, lens)
        quantity = weights.sum(1)
        scale = label_lens / quantity.clamp(min=1e-4)
        return {"logits": self.spell(enc, weights * scale[:, None], label_lens, labels.shape[1]), "quantity": quantity}
