"""One side of a side-by-side benchmark of losses, that which the environment variable `SIDE` names: `sonant` or `nemo`, in an
environment that has it. See `transducer_loss.py`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import torch

Loss = Callable[..., torch.Tensor]


def _sonant(durations: list[int], vocab: int, device: str) -> Loss:
    from sonant_training.losses.config import RnntLossConfig, TdtLossConfig
    from sonant_training.losses.rnnt import RnntLoss
    from sonant_training.losses.tdt import TdtLoss

    if durations:
        return TdtLoss(TdtLossConfig(durations=durations), vocab_size=vocab)
    return RnntLoss(RnntLossConfig(), vocab_size=vocab)


def _nemo(durations: list[int], vocab: int, device: str) -> Loss:
    from nemo.collections.asr.losses.rnnt import RNNTLoss

    kwargs = {"durations": durations} if durations else {}
    loss = RNNTLoss(vocab, loss_name="tdt" if durations else "warprnnt_numba", loss_kwargs=kwargs)
    return lambda logits, lens, labels, label_lens: loss(
        log_probs=logits, targets=labels, input_lengths=lens, target_lengths=label_lens
    )


_SIDES: dict[str, Callable[[list[int], int, str], Loss]] = {"sonant": _sonant, "nemo": _nemo}


def versions(threads: int) -> dict[str, str]:
    """Import, and say what was imported."""
    torch.set_num_threads(threads)
    side = __import__(_SIDE)
    return {"name": f"{_SIDE} {side.__version__}", "torch": torch.__version__}


def measure(shape: list[int], durations: list[int], dtype: str, device: str, runs: int) -> dict[str, Any]:
    """The seconds of each run, forward and back, and on a GPU the most memory beside the logits, as a multiple of theirs."""
    batch, frames, size, vocab = shape
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, vocab, (batch, size), generator=generator).to(device)
    lens = torch.linspace(0.7 * frames, frames, batch).long().to(device)
    label_lens = torch.linspace(0.6 * size, size, batch).long().to(device)
    scores = torch.randn(batch, frames, size + 1, vocab + 1 + len(durations), generator=generator)
    scores = scores.to(device, getattr(torch, dtype))
    loss, bias = _SIDES[_SIDE](durations, vocab, device), torch.zeros((), device=device, dtype=scores.dtype, requires_grad=True)
    seconds, beside, value = [], 0.0, torch.zeros(())
    for _ in range(runs + 1):
        logits = scores + bias  # made by an operation, as a joint network's are
        before = _memory(device)
        start = time.perf_counter()
        value = loss(logits=logits, lens=lens, labels=labels, label_lens=label_lens)
        (grad,) = torch.autograd.grad(value, logits)
        _wait(device)
        seconds.append(time.perf_counter() - start)
        beside = (_peak(device) - before) / (logits.numel() * logits.element_size())
        del logits, grad
    return {"seconds": seconds[1:], "loss": value.item(), "beside": beside}


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _memory(device: str) -> int:
    if device == "cpu":
        return 0
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _peak(device: str) -> int:
    return torch.cuda.max_memory_allocated() if device == "cuda" else 0


_SIDE = os.environ["SIDE"]
ACTIONS = {"versions": versions, "measure": measure}
