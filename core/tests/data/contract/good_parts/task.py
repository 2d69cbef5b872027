"""Tasks: recordings to texts, and to vectors."""

from __future__ import annotations

import torch
from attrs import frozen
from torch import nn

from sonant import lengths
from sonant.training import Score


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
class Labelled:
    """A batch."""

    wav: torch.Tensor
    lens: torch.Tensor
    texts: tuple[str, ...]

    def to(self, device):
        return Labelled(self.wav.to(device), self.lens.to(device), self.texts)


class LearningSpeller(Speller):
    """Learns to tell the first letter of what a manifest says of the mood."""

    def prepare(self, example):
        return torch.from_numpy(example.samples), example.row["mood"]

    def collate(self, prepared):
        samples, texts = zip(*prepared, strict=True)
        return Labelled(*lengths.pad(list(samples)), texts)

    def loss(self, batch):
        enc, _ = self.encoder(*self.preprocessor(batch.wav, batch.lens))
        scores = self.decoder.score(enc).log_softmax(-1)
        firsts = torch.tensor([self.tokenizer.encode(text)[0] for text in batch.texts])
        return {"loss": -(scores.mean(1)[torch.arange(len(firsts)), firsts]).mean()}

    def score(self, batch):
        return [Score(name=text, counts={"letters": (1.0, 2.0)}, reference=text) for text in batch.texts]


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
