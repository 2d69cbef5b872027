"""Losses and their gradients against NeMo's, which `data/make_losses.py` wrote to `data/losses.npz`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sonant import kernels
from sonant.build import instantiate
from sonant.config import fill_section

_FOUND = np.load(Path(__file__).parent / "data" / "losses.npz")
_TDT = {"tdt": [0, 1, 2, 3, 4], "tdt_sparse": [0, 1, 2, 4], "tdt_without_zero": [1, 2, 3]}
_VOCAB = 6
_BACKENDS = ["reference", "cpu"]


def nemo(case: str, name: str) -> Tensor:
    return torch.from_numpy(_FOUND[f"{case}.{name}"])


def inputs(case: str, *names: str) -> dict[str, Tensor]:
    return {name: nemo(case, name) for name in (*names, "lens", "labels", "label_lens")}


def loss(name: str, **config: Any) -> Any:
    return instantiate(fill_section("loss", {"name": name, **config}, "loss"), "loss", {"vocab_size": _VOCAB})


def gradient(function: Any, leaf: Tensor) -> tuple[Tensor, Tensor]:
    """What `function` makes of it, and the gradient of the sum of that."""
    leaf = leaf.clone().requires_grad_()
    value = function(leaf)
    value.sum().backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


@pytest.mark.parametrize("reduction", ["mean_batch", "mean_volume", "mean", "sum"])
@pytest.mark.parametrize("name", ["ctc", "rnnt"])
def test_every_reduction_is_nemos(name: str, reduction: str) -> None:
    found = loss(name, reduction=reduction)(**inputs(name, "logits"))
    torch.testing.assert_close(found, nemo(f"{name}.{reduction}", "loss").reshape(()), rtol=1e-5, atol=0)


def test_ctc_gradient_is_nemos() -> None:
    given = inputs("ctc", "lens")
    _, grad = gradient(lambda logits: loss("ctc", reduction="sum")(logits=logits, **given), nemo("ctc", "logits"))
    torch.testing.assert_close(grad, nemo("ctc", "grad"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", _BACKENDS)
@pytest.mark.parametrize(("case", "fastemit"), [("rnnt", 0.0), ("rnnt.fastemit", 0.3)])
def test_rnnt_losses_and_gradients_are_nemos(case: str, fastemit: float, backend: str) -> None:
    compute, given = kernels.get("transducer_loss", "cpu", backend), inputs("rnnt")
    losses, grad = gradient(lambda logits: compute(logits, **given, fastemit_lambda=fastemit), nemo("rnnt", "logits"))
    torch.testing.assert_close(losses, nemo(case, "losses"), rtol=1e-5, atol=0)
    torch.testing.assert_close(grad, nemo(case, "grad"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", _BACKENDS)
@pytest.mark.parametrize("sigma", [0.0, 0.05])
@pytest.mark.parametrize("case", _TDT)
def test_tdt_losses_and_gradients_are_those_of_nemos_loss_in_pytorch(case: str, sigma: float, backend: str) -> None:
    compute, how = kernels.get("transducer_loss", "cpu", backend), {"durations": _TDT[case], "sigma": sigma}
    losses, grad = gradient(lambda logits: compute(logits, **inputs(case), **how), nemo(case, "logits"))
    torch.testing.assert_close(losses, nemo(f"{case}.sigma{sigma}", "losses"), rtol=1e-5, atol=0)
    torch.testing.assert_close(grad, nemo(f"{case}.sigma{sigma}", "grad"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", _BACKENDS)
@pytest.mark.parametrize("fastemit", [0.0, 0.3])
@pytest.mark.parametrize("sigma", [0.0, 0.05])
@pytest.mark.parametrize("case", _TDT)
def test_tdt_losses_and_gradients_are_those_of_nemos_kernel(case: str, sigma: float, fastemit: float, backend: str) -> None:
    compute = kernels.get("transducer_loss", "cpu", backend)
    how = {"durations": _TDT[case], "sigma": sigma, "fastemit_lambda": fastemit}
    losses, grad = gradient(lambda logits: compute(logits, **inputs(case), **how), nemo(case, "logits"))
    named = f"{case}.kernel.sigma{sigma}.fastemit{fastemit}"
    torch.testing.assert_close(losses, nemo(named, "losses"), rtol=1e-5, atol=0)
    torch.testing.assert_close(grad, nemo(named, "grad"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_nemos(smoothing: float) -> None:
    given = {name: nemo("cross_entropy", name) for name in ("targets", "target_lens")}
    compute = loss("cross_entropy", label_smoothing=smoothing)
    value, grad = gradient(lambda logits: compute(logits=logits, **given), nemo("cross_entropy", "logits"))
    case = f"cross_entropy.smoothing{smoothing}"
    torch.testing.assert_close(value, nemo(case, "loss"), rtol=1e-5, atol=0)
    torch.testing.assert_close(grad, nemo(case, "grad"), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("scale", "margin"), [(20.0, 1.35), (30.0, 0.2)])
def test_angular_softmax_is_nemos(scale: float, margin: float) -> None:
    labels = nemo("angular_softmax", "labels")[:, None]  # of one target each
    given = {"targets": labels, "target_lens": torch.ones(len(labels), dtype=torch.int64)}
    compute = loss("angular_softmax", scale=scale, margin=margin)
    value, grad = gradient(lambda cosines: compute(logits=cosines[:, None], **given), nemo("angular_softmax", "logits"))
    case = f"angular_softmax.scale{scale}.margin{margin}"
    torch.testing.assert_close(value, nemo(case, "loss"), rtol=1e-5, atol=0)
    torch.testing.assert_close(grad, nemo(case, "grad"), rtol=1e-3, atol=1e-6)


def test_bce_is_nemos() -> None:
    given = {name: nemo("bce", name) for name in ("target", "lens")}
    value, grad = gradient(lambda pred: loss("bce")(pred=pred, **given), nemo("bce", "pred"))
    torch.testing.assert_close(value, nemo("bce", "loss"), rtol=1e-5, atol=0)
    torch.testing.assert_close(grad, nemo("bce", "grad"), rtol=1e-4, atol=1e-6)
