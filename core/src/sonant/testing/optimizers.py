"""What an optimizer promises: it goes downhill, goes on where it stopped, and lets groups of parameters differ."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sonant.testing import samples
from sonant.testing.check import RAISED, Skipped, explain, require
from sonant.testing.subject import Subject

_STEPS = 50
_SHAPE = (4, 6)  # a matrix: some optimizers take no other


def _valley(parameters: Sequence[Tensor]) -> Tensor:
    """A convex quadratic with its lowest point at random places, curved by 0.1 to 1."""
    curvature = torch.linspace(0.1, 1.0, _SHAPE[0] * _SHAPE[1]).reshape(_SHAPE)
    places = [samples.noise(*_SHAPE, seed=seed) for seed in range(len(parameters))]
    return torch.stack([(curvature * (p - at).square()).sum() for p, at in zip(parameters, places, strict=True)]).sum() / 2


def _parameters() -> list[nn.Parameter]:
    return [nn.Parameter(2 * samples.noise(*_SHAPE, seed=seed)) for seed in (8, 9)]


def _run(optimizer: Any, parameters: Sequence[Tensor], steps: int) -> None:
    def closure() -> Tensor:
        optimizer.zero_grad()
        with torch.enable_grad():
            value = _valley(parameters)
            value.backward()
        return value

    for _ in range(steps):
        optimizer.step(closure)


def is_a_torch_optimizer(subject: Subject) -> None:
    """It is a `torch.optim.Optimizer`, and each of its groups has its learning rate."""
    fault = _fault(subject.attempt())
    require(not fault, fault)


def _fault(built: Any) -> str:
    if not isinstance(built, torch.optim.Optimizer):
        return f"it is a {type(built).__name__}, not a torch.optim.Optimizer"
    return "" if all("lr" in group for group in built.param_groups) else "a group has no 'lr', which schedulers write"


def _build(subject: Subject, params: list[Any]) -> Any:
    built = subject.attempt(params=params)
    if _fault(built):
        raise Skipped("not a usable torch.optim.Optimizer")
    return built


def goes_downhill(subject: Subject) -> None:
    """Its steps lower a convex quadratic."""
    parameters = _parameters()
    optimizer, before = _build(subject, list(parameters)), float(_valley(parameters).detach())
    _run(optimizer, parameters, _STEPS)
    after = float(_valley(parameters).detach())
    require(
        after < before,
        f"{_STEPS} steps on a convex quadratic took it from {before:.4g} to {after:.4g}; is its tiny lr too large?",
    )


def goes_on_where_it_stopped(subject: Subject) -> None:
    """Its state, saved and loaded into a new one, gives the steps that it would have taken."""
    first = _parameters()
    optimizer = _build(subject, list(first))
    _run(optimizer, first, 5)
    second = [nn.Parameter(p.detach().clone()) for p in first]
    resumed = _build(subject, list(second))
    resumed.load_state_dict(saved_and_read(optimizer.state_dict()))
    for one, parameters in ((optimizer, first), (resumed, second)):
        torch.manual_seed(1)
        _run(one, parameters, 5)
    same = all(p.equal(q) for p, q in zip(first, second, strict=True))
    require(same, "resumed from its state dict, it takes other steps: something it computes with is not in there")


def saved_and_read(state: dict[str, Any]) -> dict[str, Any]:
    """A state dict by way of a file, as runs are resumed: read with `weights_only=True`, which refuses arbitrary objects."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    try:
        return dict(torch.load(file, weights_only=True))
    except Exception as error:  # it refuses with the error of a module that nothing here imports
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise AssertionError(
            f"its state dict holds {found[1] if found else 'an object'}, and a file of it cannot be read without running code: "
            "keep to tensors and plain values"
        ) from error


def honours_groups(subject: Subject) -> None:
    """A group of parameters with a learning rate of 0 stays where it is, and the others move."""
    still, moving = _parameters()
    before = [p.detach().clone() for p in (still, moving)]
    _build(subject, [still, moving])  # without groups, or there is nothing to compare
    try:
        optimizer = subject.construct(params=[{"params": [still], "lr": 0.0}, {"params": [moving]}])
    except RAISED as error:
        raise AssertionError(f"cannot be built with groups of parameters: {explain(error.__cause__ or error)}") from error
    _run(optimizer, [still, moving], 3)
    require(still.equal(before[0]), "parameters of a group with lr 0 are moved: take the learning rate from each group")
    require(not moving.equal(before[1]), "the parameters of the second group are not moved")


CHECKS = (is_a_torch_optimizer, goes_downhill, goes_on_where_it_stopped, honours_groups)
