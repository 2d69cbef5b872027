"""The four hooks a plugin may implement, and the version of that contract.

A plugin is a module named in the entry-point group `sonant.plugins`. It states the hook API it
was written for as `SONANT_API = 1` and implements any of the hooks below with `@sonant.hookimpl`.
The module imports nothing but `sonant` and the standard library.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING, Final

import pluggy

if TYPE_CHECKING:
    import click

    from sonant.spec import ComponentSpec, KernelSpec

PROJECT: Final = "sonant"
ENTRY_POINT_GROUP: Final = "sonant.plugins"
HOOK_API: Final = 1

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def sonant_components() -> Iterable[ComponentSpec]:  # type: ignore[empty-body]
    """Return the components this plugin provides."""


@hookspec
def sonant_kernels() -> Iterable[KernelSpec]:  # type: ignore[empty-body]
    """Return implementations of operations, chosen at run time by what the machine has."""


@hookspec
def sonant_model_cards() -> Iterable[Traversable]:  # type: ignore[empty-body]
    """Return YAML files of model cards: what `sonant.load` can fetch by name."""


@hookspec
def sonant_commands(app: click.Group) -> None:
    """Add commands to the `sonant` command line."""
