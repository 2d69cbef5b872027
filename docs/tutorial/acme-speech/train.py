"""Trains a model on the recordings of a manifest: `python train.py CONFIG MANIFEST FOLDER [STEPS]`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

import sonant
from sonant import inputs, lengths
from sonant.build import instantiate
from sonant.config import fill_section
from sonant.runtime import Batch


def read(manifest: str, sample_rate: int) -> Batch:
    """All recordings of a manifest."""
    items = inputs.expand(manifest)
    return Batch(*lengths.pad([torch.from_numpy(item.read(sample_rate)) for item in items]), tuple(items))


def call(module: Any, named: Mapping[str, Any]) -> Any:
    """Gives a module what it asks for by name."""
    asked = inspect.signature(getattr(module, "forward", module)).parameters
    return module(**{name: value for name, value in named.items() if name in asked})


def criterion_of(model: Any) -> Any:
    """The loss that a recognizer's config names."""
    training = model.blueprint.config.training
    if "loss" not in training:
        raise SystemExit("the config names no loss to train with, as loss: acme/cif_loss")
    section = fill_section("loss", training["loss"], "loss")
    return instantiate(section, "loss", {"vocab_size": model.tokenizer.vocab_size})


def loss_of_asr(model: Any, criterion: Any, batch: Batch) -> Tensor:
    """What that loss makes of the recognizer's decoder on a batch."""
    enc, lens = model.encode(batch.wav, batch.lens)
    labels, label_lens = lengths.pad([torch.tensor(model.tokenizer.encode(item.row["text"])) for item in batch.items])
    named = {"enc": enc, "lens": lens, "labels": labels, "label_lens": label_lens}
    out = call(model.decoder, named)
    return call(criterion, named | (out if isinstance(out, dict) else {"logits": out}))


def train(config: str, manifest: str, folder: str, steps: int = 150) -> None:
    """Builds the model that a config describes, trains it, and saves it in a folder."""
    torch.manual_seed(0)
    model: Any = sonant.build(config)
    criterion = None if hasattr(model, "loss") else criterion_of(model)
    parts = nn.ModuleList(part for part in (model, criterion) if isinstance(part, nn.Module))  # a loss may learn too
    batch = read(manifest, model.sample_rate)
    optimizer = torch.optim.AdamW(parts.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    for step in range(steps):
        loss = model.loss(batch)["loss"] if criterion is None else loss_of_asr(model, criterion, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parts.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 25 == 0 or step == steps - 1:
            print(f"step {step:3}  loss {loss.item():.3f}")
    sonant.save(model.eval(), folder)


if __name__ == "__main__":
    config, manifest, folder, *steps = sys.argv[1:]
    train(config, manifest, folder, *map(int, steps))
