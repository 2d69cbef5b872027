"""The section `optim`: an optimizer, its schedule, and groups of parameters with options of their own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sonant.errors import ConfigError, UnknownName
from sonant_training.optimizers.building import build_optimizer


class Model(nn.Module):
    """An encoder of three layers and a head: 3 · (20 + 4 + 4 + 4) + 15 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Module()
        layers = [nn.Sequential(nn.Linear(4, 5, bias=False), nn.LayerNorm(4), nn.Linear(1, 4, bias=False)) for _ in range(3)]
        self.encoder.layers = nn.ModuleList(layers)
        self.decoder = nn.Linear(4, 3)


def groups(section: dict[str, Any], model: nn.Module | None = None) -> dict[tuple[str, ...], dict[str, Any]]:
    """The optimizer's groups by the names of their parameters."""
    model = model or Model()
    names = {parameter: name for name, parameter in model.named_parameters()}
    optimizer, _ = build_optimizer({"name": "adamw", "lr": 0.1, **section}, model, 10)
    return {tuple(names[p] for p in group["params"]): group for group in optimizer.param_groups}


def test_without_groups_all_that_is_trained_is_one_group() -> None:
    model = Model()
    model.get_submodule("encoder.layers.1").requires_grad_(False)
    (found,) = groups({}, model)
    assert found == tuple(name for name, p in model.named_parameters() if p.requires_grad)
    assert not any("layers.1." in name for name in found)


def test_a_group_has_its_own_options_and_the_rest_the_sections() -> None:
    found = groups({"betas": [0.9, 0.98], "groups": [{"match": ["encoder.layers.0-1"], "lr": 0.01, "weight_decay": 0.5}]})
    (rest, of_rest), (lower, of_lower) = found.items()
    assert set(lower) == {
        name for name, _ in Model().named_parameters() if name.startswith(("encoder.layers.0", "encoder.layers.1"))
    }
    assert set(rest) | set(lower) == {name for name, _ in Model().named_parameters()}
    assert (of_rest["lr"], of_rest["weight_decay"], of_rest["betas"]) == (0.1, 0.01, (0.9, 0.98))
    assert (of_lower["lr"], of_lower["weight_decay"], of_lower["betas"]) == (0.01, 0.5, (0.9, 0.98))


def test_a_parameter_is_of_the_first_group_that_it_fits() -> None:
    found = groups({"groups": [{"match": "decoder", "lr": 0.5}, {"vectors_only": True, "weight_decay": 0.0}]})
    by_rate = {group["lr"]: set(names) for names, group in found.items() if group["lr"] == 0.5}
    assert by_rate == {0.5: {"decoder.weight", "decoder.bias"}}
    plain = {name for names, group in found.items() if group["weight_decay"] == 0.0 for name in names}
    assert plain == {f"encoder.layers.{i}.1.{kind}" for i in range(3) for kind in ("weight", "bias")}


def test_weights_of_norms_and_biases_do_not_decay_where_a_group_says_so() -> None:
    model = Model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    section = {"name": "sgd", "lr": 0.1, "weight_decay": 1.0, "groups": [{"vectors_only": True, "weight_decay": 0.0}]}
    optimizer, _ = build_optimizer(section, model, None)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        expected = before[name] * (0.9 if parameter.dim() > 1 else 1.0)
        torch.testing.assert_close(parameter.detach(), expected)


def test_the_schedule_moves_each_group_from_its_own_learning_rate() -> None:
    section = {"name": "adamw", "lr": 0.1, "groups": [{"match": "decoder", "lr": 0.02}], "sched": {"name": "linear"}}
    optimizer, scheduler = build_optimizer(section, Model(), 10)
    assert scheduler is not None
    for _ in range(5):
        optimizer.step()
        scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.01])


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        (
            {"groups": [{"match": "encodr"}]},
            r"optim.groups\[0\].match\[0\]: the model has nothing called 'encodr'. Did you mean 'encoder'",
        ),
        ({"groups": [{"match": "encoder", "lrr": 1.0}]}, r"optim.groups\[0\].lrr: unknown key. Did you mean 'lr'\?"),
        ({"groups": {"match": "encoder"}}, r"optim.groups: expected a list of mappings, e.g. \[\{match: \[encoder\]"),
        ({"groups": [{"match": "decoder"}, {"match": "decoder.bias"}]}, r"optim.groups\[1\]: every parameter that it matches is"),
        ({"groups": [{"match": "decoder", "lr": -1.0}]}, r"optim.groups\[0\]: 'lr' must be >= 0"),
        ({"lr": "fast"}, "optim.lr"),
        ({"sched": {"name": "cosine", "warmup": 5}}, r"optim.sched.warmup: unknown key. Did you mean 'warmup_steps'\?"),
    ],
)
def test_mistakes_are_named(section: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        groups(section)


def test_a_name_nobody_has_is_an_error_with_those_there_are() -> None:
    with pytest.raises(UnknownName, match="optim.name: no optimizer named 'adamww'. Did you mean 'adamw'"):
        groups({"name": "adamww"})
    with pytest.raises(UnknownName, match=r"optim.sched.name: no scheduler named 'cosin'. Did you mean 'cosine'"):
        groups({"sched": {"name": "cosin"}})


def test_a_model_that_is_frozen_as_a_whole_is_an_error() -> None:
    model = Model()
    model.requires_grad_(False)
    with pytest.raises(ConfigError, match="no parameter of the model is trained"):
        groups({}, model)
