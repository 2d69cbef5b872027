"""The section `optim` of a run's config, read and checked without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from attrs import field, frozen

from sonant.config import Section, config_class, fill, fill_section
from sonant.errors import ConfigError


@frozen(kw_only=True)
class GroupConfig:
    """Parameters that are moved otherwise than the rest: every other key is one of the optimizer's, as `lr`, for these alone.

    A parameter is of the first group that it fits. Patterns are paths as in `init.freeze`: what lies below is meant too, `*`
    stands for anything, and `0-11` between dots for these numbers.
    """

    match: list[str] = field(factory=lambda: ["*"], metadata={"help": "paths of parameters, or of what holds them"})
    vectors_only: bool = field(
        default=False, metadata={"help": "whether weights of two and more dimensions are left out: biases and norms remain"}
    )


@frozen(kw_only=True)
class ParameterGroup:
    """A group of parameters and the options of the optimizer that hold for it alone."""

    chosen: GroupConfig
    options: Mapping[str, Any]


@frozen(kw_only=True)
class OptimSection:
    """The section, filled."""

    optimizer: Section
    scheduler: Section | None
    groups: Sequence[ParameterGroup]


def read_optim(section: Mapping[str, Any]) -> OptimSection:
    """
    Raises:
        ConfigError: a key or a value does not fit.
        UnknownName, DuplicateName: a name cannot be resolved.
    """
    values = {key: value for key, value in section.items() if key not in ("sched", "groups")}
    optimizer = fill_section("optimizer", values, "optim")
    groups = section.get("groups") or []
    if not isinstance(groups, (list, tuple)) or not all(isinstance(group, Mapping) for group in groups):
        raise ConfigError(f"optim.groups: expected a list of mappings, e.g. [{{match: [encoder], lr: 1.0e-4}}], not {groups!r}")
    sched = section.get("sched")
    return OptimSection(
        optimizer=optimizer,
        scheduler=None if sched is None else fill_section("scheduler", sched, "optim.sched"),
        groups=[_group(group, values, optimizer, f"optim.groups[{i}]") for i, group in enumerate(groups)],
    )


def _group(group: Mapping[str, Any], values: Mapping[str, Any], optimizer: Section, path: str) -> ParameterGroup:
    chosen = {field.name: group[field.name] for field in attrs.fields(GroupConfig) if field.name in group}
    if isinstance(chosen.get("match"), str):
        chosen["match"] = [chosen["match"]]
    options = {key: value for key, value in group.items() if key not in chosen}
    whole = {key: value for key, value in values.items() if key != "name"} | options
    filled = fill(config_class(optimizer.component), whole, path)
    return ParameterGroup(chosen=fill(GroupConfig, chosen, path), options={key: getattr(filled, key) for key in options})
