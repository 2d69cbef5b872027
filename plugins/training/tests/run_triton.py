"""Runs the GPU's transducer loss: `run_triton.py CASES RESULTS`, two files of torch's. `test_transducer_triton.py` starts it, in
a process of its own because Triton decides whether to interpret when it is imported.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn

import sonant_training.kernels.transducer_loss.triton as gpu

_DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def solve(given: dict[str, Tensor], how: dict[str, Any]) -> dict[str, Tensor]:
    """The losses, with and without a gradient, and the gradient of a weighted sum of those that are finite."""
    given = {name: value.to(_DEVICE) for name, value in given.items()}
    logits = given.pop("logits").requires_grad_()
    losses = gpu.transducer_loss(logits, **given, **how)
    finite = losses[losses.isfinite()]
    (finite * torch.arange(1, 1 + len(finite), device=_DEVICE)).sum().backward()
    with torch.no_grad():
        alone = gpu.transducer_loss(logits, **given, **how)
    assert logits.grad is not None
    return {"losses": losses.detach().cpu(), "alone": alone.cpu(), "grad": logits.grad.cpu()}


def reuse(given: dict[str, Tensor]) -> dict[str, Any]:
    """What becomes of logits that a linear layer made, of its gradient, and of going back a second time."""
    rest = {name: value.to(_DEVICE) for name, value in given.items() if name != "logits"}
    batch, frames, positions, outputs = given["logits"].shape
    torch.manual_seed(0)
    x, linear = torch.randn(batch, frames, positions, 5, device=_DEVICE), nn.Linear(5, outputs).to(_DEVICE)
    found: dict[str, Any] = {}
    for name, again in (("kept", False), ("reused", True)):
        linear.zero_grad()
        logits = linear(x)
        before = logits.detach().clone()
        losses = gpu.transducer_loss(logits, **rest, reuse_logits=again)
        loss = losses[losses.isfinite()].sum()
        loss.backward(retain_graph=True)
        assert linear.weight.grad is not None
        found[name] = {"unchanged": logits.detach().equal(before), "grad": linear.weight.grad.clone().cpu()}
    try:
        loss.backward()
    except RuntimeError as error:
        found["second"] = str(error)
    return found


cases = torch.load(sys.argv[1], weights_only=True)
gpu._WIDEST = 4  # so that a row of logits takes several turns
results: dict[str, Any] = {name: solve(**case) for name, case in cases.items()}
results["reuse"] = reuse(cases["rnnt"]["given"])
torch.save(results, sys.argv[2])
