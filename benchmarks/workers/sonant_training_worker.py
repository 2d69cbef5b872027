"""Sonant's side of a benchmark of training; see `training_speed.py` and `training_parity.py`."""

from __future__ import annotations

from typing import Any

from _lessons import lesson

held: dict[str, Any] = {}


def versions(threads: int) -> dict[str, str]:
    """Import, and say what was imported."""
    import torch

    import sonant

    torch.set_num_threads(threads)
    return {"name": f"sonant {sonant.__version__}", "torch": torch.__version__}


def start(file: str, rate: float, dropout: float, augment: bool) -> int:
    """Open a checkpoint for training."""
    import torch

    import sonant
    from sonant import config
    from sonant.build import instantiate, training_parts

    model = sonant.load(file, device="cpu", dtype="float32").train()
    for name, module in model.named_modules():
        if type(module).__name__ == "Dropout" and not name.endswith("position.dropout"):  # which the other side has not
            module.p = dropout
    if not augment:
        model.augmentation = None
    losses = training_parts(model, {"loss": {"name": "ctc"}})
    section = config.fill_section("optimizer", {"name": "adamw", "lr": rate}, "optim")
    optimizer = instantiate(section, "optim", {"params": list(model.parameters())})
    torch.manual_seed(0)
    held.update(model=model, losses=losses, optimizer=optimizer)
    return sum(p.numel() for p in model.parameters())


def step(number: int, **shape: Any) -> float:
    """One step; its loss."""
    import torch

    from sonant_asr.recognizer.training import Labelled

    arrays = {name: torch.from_numpy(array) for name, array in lesson(number, **shape).items()}
    held["optimizer"].zero_grad(set_to_none=True)
    loss = held["model"].loss(Labelled(items=(), prompts=None, **arrays), **held["losses"])["loss"]
    loss.backward()
    held["optimizer"].step()
    return float(loss.detach())


ACTIONS = {"versions": versions, "start": start, "step": step}
