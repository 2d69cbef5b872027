"""Trains a model on the recordings of a manifest: `python train.py CONFIG MANIFEST FOLDER [STEPS]`."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor

import sonant
from sonant import inputs, lengths
from sonant.build import instantiate
from sonant.config import fill_section
from sonant.runtime import Batch


def read(manifest: str, sample_rate: int) -> Batch:
    """All recordings of a manifest."""
    items = inputs.expand(manifest)
    return Batch(*lengths.pad([torch.from_numpy(item.read(sample_rate)) for item in items]), tuple(items))


def loss_of_asr(model: Any, batch: Batch) -> Tensor:
    """A recognizer's loss: the one its config names, given what it asks for by name."""
    loss = instantiate(fill_section("loss", model.blueprint.config.training["loss"], "loss"), "loss", {})
    enc, lens = model.encode(batch.wav, batch.lens)
    labels, label_lens = lengths.pad([torch.tensor(model.tokenizer.encode(item.row["text"])) for item in batch.items])
    named = model.decoder(enc=enc, lens=lens, labels=labels, label_lens=label_lens)
    return loss(**named, labels=labels, label_lens=label_lens)


def train(config: str, manifest: str, folder: str, steps: int = 150) -> None:
    """Builds the model that a config describes, trains it, and saves it in a folder."""
    torch.manual_seed(0)
    model: Any = sonant.build(config)
    batch = read(manifest, model.sample_rate)
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    for step in range(steps):
        loss = model.loss(batch)["loss"] if hasattr(model, "loss") else loss_of_asr(model, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 25 == 0 or step == steps - 1:
            print(f"step {step:3}  loss {loss.item():.3f}")
    sonant.save(model.eval(), folder)


if __name__ == "__main__":
    config, manifest, folder, *steps = sys.argv[1:]
    train(config, manifest, folder, *map(int, steps))
