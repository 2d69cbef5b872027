"""NeMo's side of a benchmark of training; runs in an environment that has NeMo. See `training_speed.py`, `training_parity.py`."""

from __future__ import annotations

from typing import Any

from _lessons import lesson

held: dict[str, Any] = {}


def versions(threads: int) -> dict[str, str]:
    """Import, and say what was imported."""
    import nemo
    import nemo.collections.asr
    import torch

    torch.set_num_threads(threads)
    return {"name": f"nemo {nemo.__version__}", "torch": torch.__version__}


def start(file: str, rate: float, dropout: float, augment: bool) -> int:
    """Open a checkpoint for training."""
    import torch
    from nemo.collections.asr.losses.ctc import CTCLoss
    from nemo.collections.asr.models import ASRModel
    from nemo.core.optim.optimizers import get_optimizer

    model = ASRModel.restore_from(file, map_location="cpu").train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
    model.preprocessor.featurizer.dither = 0.0
    model.preprocessor.featurizer.pad_to = 0
    if not augment:
        model.spec_augmentation = None
    model.loss = CTCLoss(num_classes=model.decoder.num_classes_with_blank - 1, zero_infinity=True, reduction="mean_batch")
    # Sonant's default decay, which is PyTorch's; the class is NeMo's own choice.
    optimizer = get_optimizer("adamw")(model.parameters(), lr=rate, weight_decay=0.01)
    torch.manual_seed(0)
    held.update(model=model, optimizer=optimizer)
    return sum(p.numel() for p in model.parameters())


def step(number: int, **shape: Any) -> float:
    """One step; its loss."""
    import torch

    arrays = {name: torch.from_numpy(array) for name, array in lesson(number, **shape).items()}
    model = held["model"]
    held["optimizer"].zero_grad(set_to_none=True)
    scores, lens, _ = model(input_signal=arrays["wav"], input_signal_length=arrays["lens"])
    loss = model.loss(log_probs=scores, targets=arrays["labels"], input_lengths=lens, target_lengths=arrays["label_lens"])
    loss.backward()
    held["optimizer"].step()
    return float(loss.detach())


ACTIONS = {"versions": versions, "start": start, "step": step}
