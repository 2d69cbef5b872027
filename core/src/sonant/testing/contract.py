"""The contract of components, as checks that any plugin can run.

A plugin's whole test file::

    from sonant.testing import contract

    test_contract = contract.suite("acme-zipformer")

It builds every component of that distribution from the `tiny` config of its spec, on the CPU, and holds it to what its kind
promises. `sonant plugins --check` runs the same checks without pytest.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from sonant import plugins
from sonant.errors import PluginError, UnknownName
from sonant.plugins import Plugin
from sonant.registry import Registered
from sonant.testing import (
    augmentations,
    construction,
    decoders,
    encoders,
    imports,
    modules,
    preprocessors,
    specs,
    tasks,
    tokenizers,
)
from sonant.testing.check import Check, Outcome, Skipped, run
from sonant.testing.subject import Subject

__all__ = ["Check", "Outcome", "Skipped", "checks", "run", "suite"]

Promise = Callable[[Any], "str | None"]

EVERY_PLUGIN: Final[tuple[Promise, ...]] = imports.CHECKS
EVERY_KIND: Final[tuple[Promise, ...]] = (*specs.CHECKS, *construction.CHECKS)
BY_KIND: Final[dict[str, tuple[Promise, ...]]] = {
    "preprocessor": (*preprocessors.CHECKS, *modules.CHECKS),
    "augmentation": (*augmentations.CHECKS, *modules.CHECKS),
    "encoder": (*encoders.CHECKS, *modules.CHECKS),
    "decoder": (*decoders.CHECKS, *modules.CHECKS),
    "search": decoders.SEARCHING,
    "tokenizer": tokenizers.CHECKS,
    "task": tasks.CHECKS,
}
"""What each kind promises beside. A kind that is not here is only described, filled and built."""


def checks(distribution: str) -> list[Check]:
    """Every promise that the components of an installed plugin make.

    Raises:
        UnknownName: no plugin of that name is installed.
        PluginError: it failed to load.
    """
    return [check for plugin in _plugins(distribution) for check in _checks(plugin)]


def suite(distribution: str) -> Callable[..., None]:
    """A pytest test function with one case for each check of a plugin."""
    import pytest

    @pytest.mark.parametrize("check", checks(distribution), ids=lambda check: check.label)
    def test_contract(check: Check) -> None:
        try:
            check()
        except Skipped as reason:
            pytest.skip(str(reason))

    return test_contract


def _plugins(distribution: str) -> list[Plugin]:
    found = [p for p in plugins.installed() if _canonical(p.distribution) == _canonical(distribution)]
    if not found:
        names = ", ".join(sorted({p.distribution for p in plugins.installed()})) or "none"
        raise UnknownName(f"no installed plugin is called {distribution!r}; installed: {names}. Try: pip install -e .")
    for plugin in found:
        if plugin.error:
            raise PluginError(f"{plugin.label} failed to load: {plugin.error}")
    return found


def _canonical(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _checks(plugin: Plugin) -> list[Check]:
    found = [_check(f"plugin {plugin.distribution}", promise, plugin) for promise in EVERY_PLUGIN]
    for spec in plugin.components:
        subject = Subject(Registered(spec, plugin))
        promises = (*EVERY_KIND, *BY_KIND.get(spec.kind, ()))
        found += [_check(subject.label, promise, subject) for promise in promises]
    return found


def _check(subject: str, promise: Promise, about: Plugin | Subject) -> Check:
    name = getattr(promise, "__name__", "").replace("_", " ")
    return Check(subject, name, partial(promise, about))
