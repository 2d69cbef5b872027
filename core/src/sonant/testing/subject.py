"""A component under test, built from the `tiny` config of its spec."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from functools import cached_property
from typing import Any, Final

import torch

from sonant import config, registry
from sonant.build import assemble, instantiate
from sonant.config import ModelConfig, Section
from sonant.errors import ConfigError
from sonant.files import Files
from sonant.registry import Registered
from sonant.spec import ComponentSpec
from sonant.testing.attributes import faults
from sonant.testing.check import RAISED, Skipped

D_IN: Final = 16
VOCAB_SIZE: Final = 12
MAX_STEPS: Final = 100


def _dimensions() -> dict[str, Any]:
    return {"d_in": D_IN, "vocab_size": VOCAB_SIZE}


def _parameters() -> dict[str, Any]:
    return {"params": [torch.nn.Parameter(torch.zeros(4, 6))]}


def _run() -> dict[str, Any]:
    return {"optimizer": torch.optim.AdamW(**_parameters()), "max_steps": MAX_STEPS}


_OFFERED: Final[dict[str, Callable[[], dict[str, Any]]]] = {"optimizer": _parameters, "scheduler": _run}
"""The sizes that a kind is offered, where these are not those of a model's parts."""


class Subject:
    """One component, with all that its checks need to build it.

    What an earlier check reports is not reported again: where the component cannot be built, the checks that need it are
    skipped and say so.
    """

    def __init__(self, component: Registered) -> None:
        self.component = component

    @property
    def spec(self) -> ComponentSpec:
        """What the plugin declares."""
        return self.component.spec

    @property
    def label(self) -> str:
        """`encoder fastconformer`"""
        return f"{self.spec.kind} {self.spec.name}"

    @property
    def config_class(self) -> type:
        """The class of its config.

        Raises:
            Skipped: it cannot be imported, and the check `loads` says why.
        """
        try:
            return config.config_class(self.component)
        except RAISED as error:
            raise Skipped("its config does not load") from error

    @property
    def target(self) -> Any:
        """What is called to build it.

        Raises:
            Skipped: it cannot be imported, and the check `loads` says why.
        """
        try:
            return config.load_target(self.spec.target, config.label(self.component))
        except RAISED as error:
            raise Skipped("its target does not load") from error

    def fill(self, values: Mapping[str, Any]) -> Any:
        """The component's config from `values`, defaults filled."""
        return config.fill(self.config_class, values, self.label)

    @property
    def section(self) -> Section:
        """Its filled tiny config, a new one every time.

        Raises:
            Skipped: it does not fill, and the check `tiny config fills` says why.
        """
        try:
            return Section(self.component, self.fill(self.spec.tiny))
        except Skipped:
            raise
        except RAISED as error:
            raise Skipped("its tiny config does not fill") from error

    @cached_property
    def members(self) -> dict[str, bytes]:
        """The files that its tiny config names.

        Raises:
            Skipped: the function that gives them cannot be imported, and the check `loads` says why.
        """
        if not self.spec.tiny_files:
            return {}
        try:
            files = config.load_target(self.spec.tiny_files, config.label(self.component))
        except RAISED as error:
            raise Skipped("its tiny_files do not load") from error
        return dict(files())

    def construct(self, section: Section | None = None, *, seed: int = 0, device: str | None = None, **sizes: Any) -> Any:
        """Build it, with `sizes` beside those its kind is offered, and let every exception out. A module is in training mode."""
        section = section or self.section
        _ = self.target
        torch.manual_seed(seed)
        with torch.device(device) if device else nullcontext():
            if self.spec.kind == "task":
                return _assemble(self, section)
            files = Files.of(self.members, f"{self.label} (its tiny_files)")
            return instantiate(section, self.label, _OFFERED.get(self.spec.kind, _dimensions)() | {"files": files} | sizes)

    def attempt(self, section: Section | None = None, *, seed: int = 0, **sizes: Any) -> Any:
        """Build it as `construct` does, a module in eval mode.

        Raises:
            Skipped: it cannot be built, and the check `builds` says why.
        """
        try:
            built = self.construct(section, seed=seed, **sizes)
        except Skipped:
            raise
        except RAISED as error:
            raise Skipped("does not build") from error
        return built.eval() if isinstance(built, torch.nn.Module) else built

    def build(self, *, seed: int = 0, **sizes: Any) -> Any:
        """Build it as `attempt` does, fit to be used.

        Raises:
            Skipped: it cannot be built or not be used, and the checks `builds` and `attributes` say why.
        """
        built = self.attempt(seed=seed, **sizes)
        if faults(self.spec.kind, built):
            raise Skipped("its attributes are not usable")
        return built

    def mates(self, kind: str) -> Iterator[Subject]:
        """Installed components of another kind to go with it: its own distribution's first, then those without a vendor."""

        def nearness(component: Registered) -> tuple[bool, bool, str]:
            own = component.plugin.distribution == self.component.plugin.distribution
            return not own, "/" in component.spec.name, component.spec.name

        for component in sorted((r for r in registry.current() if r.spec.kind == kind), key=nearness):
            yield Subject(component)


def _assemble(task: Subject, section: Section) -> Any:
    """A task with a part for every key it requires."""
    parts = {part.key: _part(task, part.kind) for part in task.spec.parts if part.required}
    sections = {key: part.section for key, part in parts.items()}
    members = {name: content for part in parts.values() for name, content in part.members.items()}
    return assemble(ModelConfig(task=section, parts=sections), Files.of(members, f"{task.label} (the tiny_files of its parts)"))


def _part(task: Subject, kind: str) -> Subject:
    """The nearest component of `kind` with a usable tiny config.

    Raises:
        ConfigError: there is none.
    """
    for found in task.mates(kind):
        try:
            _ = found.section
        except Skipped:
            continue
        return found
    raise ConfigError(f"no {kind} with a tiny config is installed to build it with; write one, or install one for the tests")
