"""The contract of components, as checks that any plugin can run.

A plugin's whole test file::

    from sonant.testing import contract

    test_contract = contract.suite("acme-zipformer")

It builds every component of that distribution from the `tiny` config of its spec, on the CPU, and holds it to what its kind
promises; the package around them is checked too. `sonant plugins --check` runs the same checks without pytest.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from sonant import plugins
from sonant.errors import PluginError, UnknownName
from sonant.plugins import Plugin
from sonant.registry import Registered
from sonant.spec import KINDS
from sonant.testing import (
    arguments,
    augmentations,
    clusterers,
    codecs,
    construction,
    decoders,
    distribution,
    encoders,
    imports,
    kernels,
    learning,
    losses,
    modules,
    optimizers,
    preprocessors,
    schedulers,
    searches,
    specs,
    tasks,
    text_frontends,
    tokenizers,
    vocoders,
)
from sonant.testing.check import Check, Outcome, Skipped, run
from sonant.testing.kernels import Kernel
from sonant.testing.subject import Subject

__all__ = ["Check", "Outcome", "Skipped", "checks", "checks_of", "run", "suite"]

Promise = Callable[[Any], "str | None"]

EVERY_PLUGIN: Final[tuple[Promise, ...]] = (*imports.CHECKS, *distribution.CHECKS)
EVERY_KERNEL: Final[tuple[Promise, ...]] = kernels.CHECKS
EVERY_KIND: Final[tuple[Promise, ...]] = (*specs.CHECKS, *construction.CHECKS)
BY_KIND: Final[dict[str, tuple[Promise, ...]]] = {
    "task": (*tasks.CHECKS, *learning.CHECKS, *arguments.LEFT_ALONE),
    "preprocessor": (*preprocessors.CHECKS, *arguments.CHECKS, *modules.CHECKS),
    "augmentation": (*augmentations.CHECKS, *arguments.LEFT_ALONE, *modules.CHECKS),
    "encoder": (*encoders.CHECKS, *arguments.CHECKS, *modules.CHECKS),
    "decoder": (*decoders.CHECKS, *arguments.CHECKS, *modules.CHECKS),
    "search": (*decoders.SEARCHING, *searches.CHECKS, *arguments.LEFT_ALONE),
    "tokenizer": (*tokenizers.CHECKS, *arguments.LEFT_ALONE),
    "text_frontend": (*text_frontends.CHECKS, *arguments.LEFT_ALONE),
    "vocoder": (*vocoders.CHECKS, *arguments.CHECKS, *modules.CHECKS),
    "codec": (*codecs.CHECKS, *arguments.CHECKS, *modules.WITHOUT_GRADIENT),
    "clusterer": (*clusterers.CHECKS, *arguments.LEFT_ALONE),
    "loss": (*losses.CHECKS, *arguments.CHECKS, *modules.IN_FLOAT32),
    "optimizer": optimizers.CHECKS,
    "scheduler": schedulers.CHECKS,
}
"""What each kind promises beside."""
assert BY_KIND.keys() == set(KINDS)


def checks(name: str) -> list[Check]:
    """Every promise that an installed plugin, its components and its kernels make.

    Raises:
        UnknownName: no plugin of that name is installed.
        PluginError: it failed to load.
    """
    return [check for plugin in _plugins(name) for check in checks_of(plugin)]


def checks_of(plugin: Plugin) -> list[Check]:
    """The same for a plugin that has been found and has loaded."""
    found = [_check(f"plugin {plugin.distribution}", promise, plugin) for promise in EVERY_PLUGIN]
    for spec in plugin.components:
        subject = Subject(Registered(spec, plugin))
        promises = (*EVERY_KIND, *BY_KIND[spec.kind])
        found += [_check(subject.label, promise, subject) for promise in promises]
    for kernel in (Kernel(spec, plugin) for spec in plugin.kernels):
        found += [_check(kernel.label, promise, kernel) for promise in EVERY_KERNEL]
    return found


def suite(name: str) -> Callable[..., None]:
    """A pytest test function with one case for each check of a plugin."""
    import pytest

    @pytest.mark.parametrize("check", checks(name), ids=lambda check: check.label)
    def test_contract(check: Check) -> None:
        try:
            check()
        except Skipped as reason:
            pytest.skip(str(reason))

    return test_contract


def _plugins(name: str) -> list[Plugin]:
    found = [p for p in plugins.installed() if plugins.normalized(p.distribution) == plugins.normalized(name)]
    if not found:
        names = ", ".join(sorted({p.distribution for p in plugins.installed()})) or "none"
        raise UnknownName(f"no installed plugin is called {name!r}; installed: {names}. Try: pip install -e .")
    for plugin in found:
        if plugin.error:
            raise PluginError(f"{plugin.label} failed to load: {plugin.error}")
    return found


def _check(subject: str, promise: Promise, about: Plugin | Subject | Kernel) -> Check:
    name = getattr(promise, "__name__", "").replace("_", " ")
    return Check(subject, name, (promise.__doc__ or "").strip().partition("\n")[0], partial(promise, about))
