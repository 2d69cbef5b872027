"""Optimizers against NeMo's numbers, PyTorch's, and their papers' formulas written out in float64."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sonant.build import instantiate
from sonant.config import fill_section
from sonant.nemo import NemoSection
from sonant_training.nemo.optimizing import read_optim
from sonant_training.nemo.report import Report
from sonant_training.optimizers.muon import is_matrix, orthogonalize

CASES = json.loads((Path(__file__).parent / "data" / "nemo_optimizers.json").read_text("utf-8"))
SHAPES = [(3, 4), (5,), (2, 3, 3)]
STEPS = 12


def waves(shape: tuple[int, ...], seed: float) -> Tensor:
    """The numbers that `data/make_optimizing.py` gives NeMo."""
    places = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return torch.sin(1.7 * places + seed).reshape(shape)


def built(section: dict[str, Any], params: list[Any]) -> Any:
    return instantiate(fill_section("optimizer", section, "optim"), "optim", {"params": params})


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(waves(shape, seed)) for seed, shape in enumerate(SHAPES)]


def run(section: dict[str, Any], moved: list[nn.Parameter], steps: int = STEPS) -> None:
    optimizer = built(section, list(moved))
    for step in range(steps):
        for seed, parameter in enumerate(moved):
            parameter.grad = (1 + step) * waves(tuple(parameter.shape), seed + 0.3 * step + 10)
        optimizer.step()


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join((case["name"], *map(str, case["options"].values()))))
def test_weights_are_those_of_nemo(case: dict[str, Any]) -> None:
    section = read_optim(NemoSection({"name": case["name"], **case["options"]}, "optim"), None, Report())
    moved = parameters()
    run(section, moved)
    for parameter, expected, begun in zip(moved, case["weights"], parameters(), strict=True):
        wanted = torch.tensor(expected, dtype=torch.float64).reshape(parameter.shape)
        torch.testing.assert_close(parameter.detach(), wanted, rtol=1e-10, atol=1e-12)
        assert (wanted - begun).abs().max() > 1e-6, "NeMo moved nothing: the case says nothing"


@pytest.mark.parametrize(
    ("name", "theirs", "options"),
    [
        ("adamw", torch.optim.AdamW, {"lr": 0.02, "amsgrad": True}),
        ("nadam", torch.optim.NAdam, {"lr": 0.02, "weight_decay": 0.1, "decoupled_weight_decay": True}),
        ("radam", torch.optim.RAdam, {"lr": 0.02, "betas": [0.8, 0.9]}),
        ("sgd", torch.optim.SGD, {"lr": 0.02, "momentum": 0.9, "dampening": 0.5}),
    ],
)
def test_torchs_own_take_their_options(name: str, theirs: Any, options: dict[str, Any]) -> None:
    ours, plain = parameters(), parameters()
    run({"name": name, **options}, ours)
    optimizer = theirs(plain, **options)
    for step in range(STEPS):
        for seed, parameter in enumerate(plain):
            parameter.grad = (1 + step) * waves(tuple(parameter.shape), seed + 0.3 * step + 10)
        optimizer.step()
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_one_kernel_for_the_step_leaves_scaled_gradients_to_the_loop(name: str) -> None:
    """Else gradients could not be clipped in mixed precision: Lightning refuses optimizers that say they unscale."""
    optimizer = built({"name": name, "lr": 0.1}, parameters())
    assert optimizer.param_groups[0]["fused"] is True
    assert optimizer._step_supports_amp_scaling is False


def lion(weight: Tensor, gradients: list[Tensor], lr: float, betas: tuple[float, float], decay: float) -> Tensor:
    """Algorithm 2 of Chen et al., 2023."""
    momentum = torch.zeros_like(weight)
    for gradient in gradients:
        c = betas[0] * momentum + (1 - betas[0]) * gradient
        weight = weight - lr * (torch.sign(c) + decay * weight)
        momentum = betas[1] * momentum + (1 - betas[1]) * gradient
    return weight


def test_lion_is_its_papers_algorithm() -> None:
    moved = [nn.Parameter(waves((3, 4), 0))]
    gradients = [(1 + step) * waves((3, 4), 0.3 * step + 10) for step in range(STEPS)]
    run({"name": "lion", "lr": 0.03, "betas": [0.8, 0.95], "weight_decay": 0.2}, moved)
    wanted = lion(waves((3, 4), 0), gradients, 0.03, (0.8, 0.95), 0.2)
    torch.testing.assert_close(moved[0].detach(), wanted, rtol=1e-12, atol=1e-12)


def newton_schulz(matrix: Tensor, steps: int) -> Tensor:
    """Jordan's iteration, on singular values alone: the polynomial is odd, so singular vectors stay."""
    u, s, vh = torch.linalg.svd(matrix / matrix.norm(), full_matrices=False)
    for _ in range(steps):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u @ torch.diag(s) @ vh


@pytest.mark.parametrize("shape", [(5, 5), (4, 9), (9, 4)])
def test_muons_steps_have_singular_values_near_one(shape: tuple[int, int]) -> None:
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = orthogonalize(matrices, 5)
    for one, matrix in zip(found, matrices, strict=True):
        torch.testing.assert_close(one, newton_schulz(matrix, 5), rtol=1e-9, atol=1e-9)
    values = torch.linalg.svdvals(orthogonalize(matrices, 8))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_muon_is_momentum_made_orthogonal_for_matrices_and_adamw_for_the_rest() -> None:
    lr, decay = 0.02, 0.1
    moved = [nn.Parameter(waves((6, 4), 0)), nn.Parameter(waves((7,), 1)), nn.Parameter(waves((6, 1, 3), 2))]
    run({"name": "muon", "lr": lr, "weight_decay": decay}, moved, steps=4)

    weight, momentum = waves((6, 4), 0), torch.zeros(6, 4, dtype=torch.float64)
    for step in range(4):
        gradient = (1 + step) * waves((6, 4), 0.3 * step + 10)
        momentum = 0.95 * momentum + 0.05 * gradient
        ahead = 0.95 * momentum + 0.05 * gradient
        weight = weight * (1 - lr * decay) - lr * 0.2 * 6**0.5 * newton_schulz(ahead, 5)
    torch.testing.assert_close(moved[0].detach(), weight, rtol=1e-9, atol=1e-9)

    plain = [nn.Parameter(waves((7,), 1)), nn.Parameter(waves((6, 1, 3), 2))]
    adamw = torch.optim.AdamW(plain, lr=lr, betas=(0.9, 0.95), weight_decay=decay)
    for step in range(4):
        for seed, parameter in enumerate(plain, start=1):
            parameter.grad = (1 + step) * waves(tuple(parameter.shape), seed + 0.3 * step + 10)
        adamw.step()
    for one, other in zip(moved[1:], plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_muon_agrees_with_torchs() -> None:
    """PyTorch's computes in bfloat16, so only roughly."""
    ours, theirs = nn.Parameter(waves((6, 4), 0).float()), nn.Parameter(waves((6, 4), 0).float())
    optimizers = (
        built({"name": "muon", "lr": 0.02, "scale": "spectral"}, [ours]),
        torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1),
    )
    generator = torch.Generator().manual_seed(5)
    for _ in range(4):
        gradient = torch.randn(6, 4, generator=generator)
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0.02 * 4 * 0.02 * (6 / 4) ** 0.5)  # 2 % of the way


def test_which_parameters_are_matrices() -> None:
    assert is_matrix(torch.zeros(3, 4))
    assert is_matrix(torch.zeros(3, 4, 1))  # a convolution over one frame
    assert not is_matrix(torch.zeros(3, 1, 9))  # depthwise
    assert not is_matrix(torch.zeros(3, 4, 3, 3))
    assert not is_matrix(torch.zeros(1, 4))
    assert not is_matrix(torch.zeros(4))


def test_muon_leaves_matrices_to_adamw_where_a_group_says_so() -> None:
    ours, plain = nn.Parameter(waves((6, 4), 0)), nn.Parameter(waves((6, 4), 0))
    optimizer = built({"name": "muon", "lr": 0.02}, [{"params": [ours], "matrices": False}])
    adamw = torch.optim.AdamW([plain], lr=0.02, betas=(0.9, 0.95), weight_decay=0.1)
    for parameter in (ours, plain):
        parameter.grad = waves((6, 4), 10)
    optimizer.step()
    adamw.step()
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)


def test_adafactor_scales_each_tensor_by_itself() -> None:
    """A tensor's step does not depend on which others there are."""
    section = {"name": "adafactor", "lr": 0.02, "scale_parameter": True}
    alone, among = [nn.Parameter(waves((2, 3, 3), 0))], [nn.Parameter(waves((2, 3, 3), 0)), nn.Parameter(9 * waves((4,), 1))]
    run(section, alone)
    run(section, among)
    torch.testing.assert_close(alone[0], among[0], rtol=0, atol=0)


def test_adafactors_memory_of_a_matrix_is_a_row_and_a_column() -> None:
    moved = nn.Parameter(waves((30, 40), 0))
    optimizer = built({"name": "adafactor", "lr": 0.01}, [moved])
    moved.grad = waves((30, 40), 1)
    optimizer.step()
    assert sum(v.numel() for v in optimizer.state[moved].values() if isinstance(v, Tensor)) == 30 + 40


@pytest.mark.parametrize("name", ["novograd", "adafactor", "adan", "lion", "muon"])
def test_gradients_are_left_as_they_are(name: str) -> None:
    moved = parameters()
    gradients = [waves(tuple(p.shape), 10) for p in moved]
    for parameter, gradient in zip(moved, gradients, strict=True):
        parameter.grad = gradient.clone()
    built({"name": name, "lr": 0.1, "weight_decay": 0.1}, list(moved)).step()
    for parameter, gradient in zip(moved, gradients, strict=True):
        assert parameter.grad is not None
        assert parameter.grad.equal(gradient)


@pytest.mark.parametrize("name", ["novograd", "adafactor", "adan", "lion", "muon"])
def test_parameters_without_gradient_stay_and_sparse_gradients_are_refused(name: str) -> None:
    still, moved = nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(3, 2))
    optimizer = built({"name": name, "lr": 0.1}, [still, moved])
    moved.grad = torch.ones(3, 2)
    optimizer.step()
    assert still.equal(torch.ones(3, 2))
    assert not moved.equal(torch.ones(3, 2))
    moved.grad = torch.ones(3, 2).to_sparse()
    with pytest.raises(ValueError, match="takes no sparse gradients; use sgd or adagrad"):
        optimizer.step()


def test_novograd_waits_for_the_first_gradient_that_is_not_zero() -> None:
    moved = nn.Parameter(torch.ones(4, dtype=torch.float64))
    optimizer = built({"name": "novograd", "lr": 0.1}, [moved])
    for gradient in (torch.zeros(4), torch.tensor([3.0, 0.0, 4.0, 0.0])):
        moved.grad = gradient.double()
        optimizer.step()
    torch.testing.assert_close(moved.detach(), 1 - 0.1 * torch.tensor([0.6, 0.0, 0.8, 0.0], dtype=torch.float64))


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        ({"name": "adamw"}, "optim.lr: a value is required here"),
        ({"name": "adamw", "lr": 0.1, "betas": [0.9, 1.0]}, "betas .* must be from 0 to below 1"),
        ({"name": "adafactor", "lr": 0.1, "decay_rate": 0.8}, "decay_rate 0.8 must be below 0"),
        ({"name": "adafactor", "lr": 0.1, "warmup_init": True}, "warmup_init needs relative_step: true"),
    ],
)
def test_wrong_options_are_refused(section: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        fill_section("optimizer", section, "optim")
