"""Tasks that each break one promise."""

from __future__ import annotations

import torch
from good_parts.task import LearningSpeller, Speller

from sonant.training import Score


class LosesOne(Speller):
    def infer(self, batch):
        print("and it says so")
        return super().infer(batch)[1:]


class DrawsAnew(Speller):
    """Its random bias is no part of what is saved."""

    def __init__(self, config, **parts):
        super().__init__(config, **parts)
        self.tokenizer.symbols = [self.tokenizer.symbols[i] for i in torch.randperm(len(self.tokenizer.symbols), device="cpu")]


class CannotBeBuilt(Speller):
    @classmethod
    def from_parts(cls, config, parts):
        raise ValueError("no encoder is good enough")


class LacksAPart(Speller):
    """Speaks, and nothing here does."""


class HearsPadding(Speller):
    def infer(self, batch):
        return [(text, batch.wav.shape[1]) for text in super().infer(batch)]


class WritesSamples(Speller):
    def infer(self, batch):
        batch.wav.clamp_(-0.1, 0.1)
        return super().infer(batch)


class LacksAScore(Speller):
    def loss(self, batch):
        return {"loss": torch.zeros((), requires_grad=True)}


class NamesItOtherwise(LearningSpeller):
    def loss(self, batch):
        return {"entropy": super().loss(batch)["loss"]}


class LearnsNothing(LearningSpeller):
    def loss(self, batch):
        return {"loss": super().loss(batch)["loss"].detach()}


class OneLossForEach(LearningSpeller):
    def loss(self, batch):
        return {"loss": super().loss(batch)["loss"].expand(len(batch.texts))}


class ScoresOne(LearningSpeller):
    def score(self, batch):
        return super().score(batch)[:1]


class CountsNothing(LearningSpeller):
    def score(self, batch):
        return [Score(name=text) for text in batch.texts]
