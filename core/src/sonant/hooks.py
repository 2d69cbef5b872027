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
"""Counts incompatible changes of the hooks. A plugin states as `SONANT_API` the number it was written for."""


def requirement(version: str) -> str:
    """`sonant>=0.1,<0.2`, what a plugin written for `version` depends on.

    Before 1.0 every minor release may change what a plugin uses, later every major one.
    """
    major, minor = (int(part) for part in version.split(".")[:2])
    return f"{PROJECT}>={major}.{minor},<" + (f"0.{minor + 1}" if major == 0 else f"{major + 1}")


hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def sonant_components() -> Iterable[ComponentSpec]:  # type: ignore[empty-body]
    """The components that this plugin provides.

    Called once, when something first asks what is installed; so keep it to plain data. What is returned may be any iterable of
    `ComponentSpec`s: a list, or a generator. Two of one kind and name are an error of the plugin.

    Example:
        from sonant import ComponentSpec, hookimpl


        @hookimpl
        def sonant_components():
            yield ComponentSpec(
                kind="encoder",
                name="acme/gru",
                target="acme_speech.gru:Gru",
                config="acme_speech.config:GruConfig",
                doc="Frames put together by fours, then a recurrent network.",
                tiny={"d_model": 16, "n_layers": 1},
            )
    """


@hookspec
def sonant_kernels() -> Iterable[KernelSpec]:  # type: ignore[empty-body]
    """Implementations of operations, chosen at run time by what the machine has.

    Any component can then ask for the operation, as `sonant.kernels.get("acme_scan", "cuda")`, which imports the target of the
    highest `rank` whose requirements hold. A readable reference that requires nothing has rank 0, so there is always one.

    Example:
        from sonant import KernelSpec, hookimpl


        @hookimpl
        def sonant_kernels():
            return [
                KernelSpec(op="acme_scan", backend="reference", target="acme_speech.scan:reference"),
                KernelSpec(
                    op="acme_scan",
                    backend="triton",
                    target="acme_speech.scan_triton:scan",
                    requires=("cuda", "triton"),
                    rank=10,
                ),
            ]
    """


@hookspec
def sonant_model_cards() -> Iterable[Traversable]:  # type: ignore[empty-body]
    """Files of model cards, in YAML: models that can then be opened by name, as `sonant.load("acme-gru-small")`.

    The files lie in the package, beside the module. They are read when a model is first looked up by name.

    Example:
        from importlib.resources import files

        from sonant import hookimpl


        @hookimpl
        def sonant_model_cards():
            return [files("acme_speech").joinpath("cards.yaml")]
    """


@hookspec
def sonant_commands(app: click.Group) -> None:
    """Add commands to the `sonant` command line.

    `app` is the click group behind the command `sonant`. Torch, and whatever else takes time to import, is imported inside the
    command, so that `sonant --help` stays quick. A command whose name is taken is left out, and standard error says so.

    Example:
        import click

        from sonant import hookimpl


        @hookimpl
        def sonant_commands(app):
            @app.command("acme-count", help="Count the words of TEXT.")
            @click.argument("text")
            def count(text):
                click.echo(len(text.split()))
    """
