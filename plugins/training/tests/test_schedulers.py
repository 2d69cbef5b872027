"""Learning rates against NeMo's and PyTorch's, step by step, and what a schedule is at its corners."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sonant.build import instantiate
from sonant.config import fill_section
from sonant.errors import ConfigError
from sonant.nemo import NemoSection
from sonant_training.nemo.optimizing import read_optim
from sonant_training.nemo.report import Report

CASES = json.loads((Path(__file__).parent / "data" / "nemo_schedulers.json").read_text("utf-8"))
MAX_STEPS, RATES = 40, (0.01, 0.004)
FIRST_GROUP_ONLY = {"WarmupAnnealing"}
"""NeMo gives every group the learning rates of the first."""


def rates(
    section: dict[str, Any], base: tuple[float, ...] = RATES, steps: int = MAX_STEPS, run: int = MAX_STEPS
) -> list[list[float]]:
    """The learning rates at each step from 0 to `steps`."""
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in base]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    filled = fill_section("scheduler", section, "optim.sched")
    scheduler: Any = instantiate(filled, "optim.sched", {"optimizer": optimizer, "max_steps": run})
    found = []
    for _ in range(steps + 1):
        found.append([float(group["lr"]) for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return found


def ours(case: dict[str, Any]) -> tuple[dict[str, Any], tuple[float, ...]]:
    """Our section for a case of NeMo's, and the learning rates of its groups."""
    optim = {"name": "adamw", "lr": 0.01, "sched": {"name": case["name"], **case["options"]}}
    read = read_optim(NemoSection(optim, "optim"), MAX_STEPS, Report())
    return read["sched"], RATES if read["lr"] == 0.01 else (read["lr"],) * 2


@pytest.mark.parametrize("case", [c for c in CASES if c["name"] != "ExponentialLR"], ids=lambda c: f"{c['name']}-{c['options']}")
def test_learning_rates_are_those_of_nemo(case: dict[str, Any]) -> None:
    section, base = ours(case)
    found, wanted = rates(section, base), case["rates"]
    if case["name"] in FIRST_GROUP_ONLY or ("constant_steps" in case["options"] and case["name"] == "CosineAnnealing"):
        found, wanted = [row[:1] for row in found], [row[:1] for row in wanted]
    for step, (one, other) in enumerate(zip(found, wanted, strict=True)):
        assert one == pytest.approx(other, rel=1e-12, abs=1e-18), f"at step {step}"
    assert len({row[0] for row in found}) > 2, "the learning rate never changes: the case says nothing"


@pytest.mark.parametrize(
    ("section", "theirs"),
    [
        ({"name": "step", "step_size": 7, "gamma": 0.5}, lambda o: torch.optim.lr_scheduler.StepLR(o, 7, 0.5)),
        ({"name": "multi_step", "milestones": [20, 5, 11]}, lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [5, 11, 20])),
        ({"name": "exponential", "gamma": 0.9}, lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9)),
        ({"name": "cosine", "min_lr": 1e-3}, lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, MAX_STEPS, 1e-3)),
        ({"name": "linear"}, lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.0, MAX_STEPS)),
        ({"name": "polynomial", "power": 3.0}, lambda o: torch.optim.lr_scheduler.PolynomialLR(o, MAX_STEPS, 3.0)),
        ({"name": "constant"}, lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda step: 1.0)),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_learning_rates_are_those_of_torch(section: dict[str, Any], theirs: Any) -> None:
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in RATES], lr=1.0)
    scheduler = theirs(optimizer)
    for step, found in enumerate(rates(section)):
        assert found == pytest.approx([g["lr"] for g in optimizer.param_groups], rel=1e-9, abs=1e-15), f"at step {step}"
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("mode", ["triangular", "triangular2", "exp_range"])
def test_cyclic_is_torchs(mode: Any) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CyclicLR(
        optimizer, 1e-3, 0.01, step_size_up=4, step_size_down=6, mode=mode, gamma=0.97, cycle_momentum=False
    )
    section = {"name": "cyclic", "min_lr": 1e-3, "step_size_up": 4, "step_size_down": 6, "mode": mode, "gamma": 0.97}
    for found in rates(section, (0.01,)):
        assert found == pytest.approx([optimizer.param_groups[0]["lr"]], rel=1e-9)
        optimizer.step()
        scheduler.step()


FALLING = ["cosine", "linear", "polynomial", "one_minus_sqrt", "square", "square_root"]


@pytest.mark.parametrize("name", FALLING)
def test_what_falls_rises_to_lr_falls_to_min_lr_and_stays(name: str) -> None:
    found = [row[0] for row in rates({"name": name, "warmup_steps": 5, "min_lr": 1e-3}, steps=60)]
    assert found[5] == 0.01
    assert found[:6] == sorted(found[:6])
    assert found[5:] == sorted(found[5:], reverse=True)
    assert found[MAX_STEPS] == pytest.approx(1e-3)
    assert set(found[MAX_STEPS + 1 :]) == {1e-3}


@pytest.mark.parametrize("name", ["linear", "polynomial", "one_minus_sqrt", "noam_hold"])
def test_lr_is_held_for_the_steps_of_the_hold(name: str) -> None:
    found = [row[0] for row in rates({"name": name, "warmup_steps": 4, "hold_ratio": 0.25})]
    assert [step for step, rate in enumerate(found) if rate == 0.01] == list(range(4, 4 + 10 + 1))


def test_megatrons_cosine_gives_each_group_its_own_learning_rate() -> None:
    section = {"name": "cosine", "warmup_steps": 5, "constant_steps": 8}
    for first, second in rates(section):
        assert second == pytest.approx(first * RATES[1] / RATES[0], abs=1e-18)


@pytest.mark.parametrize("name", ["noam", "inverse_sqrt"])
def test_what_slows_down_goes_on_after_the_last_step_of_the_run(name: str) -> None:
    width = {"d_model": 16} if name == "noam" else {}
    long = rates({"name": name, "warmup_steps": 4, **width}, steps=100, run=20)
    assert all(later < earlier for (earlier, _), (later, _) in itertools.pairwise(long[5:]))


def test_a_frozen_group_stays_frozen() -> None:
    for name in (*FALLING, "inverse_sqrt", "cyclic"):
        assert {row[1] for row in rates({"name": name, "min_lr": 1e-3}, (0.01, 0.0))} == {0.0}, name


def test_the_length_of_the_schedule_can_differ_from_that_of_the_run() -> None:
    assert rates({"name": "cosine", "max_steps": 10}, steps=20, run=999) == rates({"name": "cosine"}, steps=20, run=10)


@pytest.mark.parametrize(
    ("section", "run", "reason"),
    [
        ({"name": "cosine"}, None, "it needs the number of steps: set trainer.max_steps, or max_steps here"),
        ({"name": "noam", "d_model": 8, "warmup_ratio": 0.1}, None, "it needs the number of steps"),
        ({"name": "cosine", "warmup_steps": 3, "warmup_ratio": 0.1}, 40, "warmup_steps and warmup_ratio say the same"),
        ({"name": "noam_hold"}, 40, "noam_hold needs a warm-up"),
        ({"name": "linear", "min_lr": 0.02}, 40, "min_lr 0.02 is above the learning rate 0.01"),
        ({"name": "noam"}, 40, "optim.sched.d_model: a value is required here"),
        ({"name": "step", "step_size": 0}, 40, "'step_size' must be > 0"),
    ],
)
def test_what_does_not_fit_is_refused(section: dict[str, Any], run: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        rates(section, run=run)
