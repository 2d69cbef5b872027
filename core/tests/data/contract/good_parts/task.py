"""Tasks: recordings to texts, and to vectors."""

from __future__ import annotations

import torch
from attrs import frozen
from torch import nn


class Speller(nn.Module):
    """Recordings to texts."""

    def __init__(self, config, *, preprocessor, tokenizer, encoder, decoder):
        super().__init__()
        self.config = config
        self.preprocessor, self.encoder, self.decoder = preprocessor, encoder, decoder
        self.tokenizer = tokenizer

    @classmethod
    def from_parts(cls, config, parts):
        return cls(config, **parts)

    @torch.inference_mode()
    def infer(self, batch):
        feats, lens = self.preprocessor(batch.wav, batch.lens)
        enc, lens = self.encoder(feats, lens)
        best = self.decoder.score(enc)[..., :-1].argmax(-1).tolist()
        return [self.tokenizer.decode(row[:n]) for row, n in zip(best, lens.tolist(), strict=True)]


@frozen(eq=False)
class Embedding:
    """A vector that stands for a recording."""

    name: str
    vector: torch.Tensor
    size: dict[str, float]


class Embedder(Speller):
    """Recordings to vectors."""

    @torch.inference_mode()
    def infer(self, batch):
        enc, lens = self.encoder(*self.preprocessor(batch.wav, batch.lens))
        means = [row[:n].mean(0) for row, n in zip(enc, lens.tolist(), strict=True)]
        return [Embedding(item.name, mean, {"norm": float(mean.norm())}) for item, mean in zip(batch.items, means, strict=True)]
