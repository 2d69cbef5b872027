"""What a plugin promises as a package: names of its own that stay, cards and commands that work, metadata that is complete."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageMetadata, PackageNotFoundError, metadata
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

import click
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

import sonant
from sonant import cards, config, hooks, plugins
from sonant.cards import ModelCard
from sonant.errors import ConfigError
from sonant.plugins import Plugin
from sonant.testing.check import RAISED, explain, require

_BOUNDS: Final = {"<", "<=", "==", "===", "~="}
_VERSION: Final = re.compile(r"(.+)\.v([0-9]+)")


def names_of_its_own(plugin: Plugin) -> None:
    """No other installed distribution claims a name of its components, kernels, model cards or commands, or a foreign one."""
    owners = defaultdict(set)
    for other in plugins.installed():
        if (other.distribution, other.module) != (plugin.distribution, plugin.module):
            for name in _claims(other):
                owners[name].add(other.label)
    for name in _core_commands():
        owners[name].add(f"sonant {sonant.__version__}")
    taken = [f"{name} (of {', '.join(sorted(owners[name]))})" for name in sorted(set(_claims(plugin)) & owners.keys())]
    require(not taken, f"names that another distribution has too: {'; '.join(taken)}. Put a name of your own in front, as acme/…")


def _claims(plugin: Plugin) -> Iterator[str]:
    for spec in plugin.components:
        yield f"{spec.kind} {spec.name!r}"
        for target in spec.nemo.targets if spec.nemo else ():
            yield f"NeMo's {spec.kind} {target!r}"
        for name in spec.stands_for("huggingface"):
            yield f"Hugging Face's {spec.kind} {name!r}"
    for kernel in plugin.kernels:
        yield f"kernel {kernel.op}/{kernel.backend}"
    for names in _cards(plugin).values():
        for name in names if isinstance(names, list) else ():
            yield f"model card {name!r}"
    try:
        yield from (f"command {name!r}" for name in _commands(plugin))
    except RAISED:  # the check `commands` says why
        return


def _core_commands() -> list[str]:
    from sonant.cli.main import COMMANDS

    return [f"command {command.name!r}" for command in COMMANDS]


def old_names_stay(plugin: Plugin) -> None:
    """Beside `name.v2` there is still `name`, which saved models ask for."""
    own = [p for p in plugins.installed() if p.distribution == plugin.distribution]  # it may have several entry points
    names = {(spec.kind, spec.name) for p in own for spec in p.components}
    gone = []
    for kind, name in sorted(names):
        match = _VERSION.fullmatch(name)
        if match:
            before = match[1] if match[2] == "2" else f"{match[1]}.v{int(match[2]) - 1}"
            if (kind, before) not in names:
                gone.append(f"{kind} {before!r}, though {name!r} is")
    require(
        not gone,
        f"no longer registered: {'; '.join(gone)}: models saved with it could not be opened. Keep the old name beside the new",
    )


def model_cards(plugin: Plugin) -> None:
    """Every file of model cards can be read, every card in it is complete, and the files that it names are beside it."""
    faults = [f"{file}: {fault}" for file, fault in _cards(plugin).items() if isinstance(fault, str)]
    require(not faults, "; ".join(faults))


def _cards(plugin: Plugin) -> dict[str, list[str] | str]:
    """By file, the names of its cards, or what is wrong with it."""
    found: dict[str, list[str] | str] = {}
    for file in plugin.cards:
        try:
            read = cards.read_cards(config.parse_yaml(file.read_text("utf-8"), file.name), file.name)
            found[file.name] = _lost(file, read) or list(read)
        except (ConfigError, OSError, UnicodeDecodeError) as error:
            found[file.name] = str(error).removeprefix(f"{file.name}: ")
    return found


def _lost(file: Traversable, found: Mapping[str, ModelCard]) -> str:
    """Which models the cards of a file say lie beside it, and are not there."""
    folder = file.parent if isinstance(file, Path) else Path()
    sources = {name: card.source for name, card in found.items()}
    lost = [f"models.{name}: {s.file}" for name, s in sources.items() if s.file and not s.hf and not (folder / s.file).exists()]
    return f"{', '.join(lost)} is not there, beside {file.name}: is it part of the wheel?" if lost else ""


def commands(plugin: Plugin) -> None:
    """Its commands can be added, and each says what it does."""
    try:
        found = _commands(plugin)
    except RAISED as error:
        raise AssertionError(f"its commands cannot be added: {explain(error)}") from error
    mute = sorted(name for name, command in found.items() if not (command.help or "").strip())
    require(not mute, f"no help for {', '.join(mute)}: give the command a docstring, or help='…'; `sonant --help` prints it")


def _commands(plugin: Plugin) -> dict[str, click.Command]:
    """By name, those of its groups included."""
    app = click.Group("sonant")
    if plugin.commands is not None:
        plugin.commands(app=app)
    return dict(_walk(app, ""))


def _walk(group: click.Group, above: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield above + name, command
        if isinstance(command, click.Group):
            yield from _walk(command, f"{above}{name} ")


def summary(plugin: Plugin) -> None:
    """The package says in a line what it is."""
    lines = _metadata(plugin).get_all("Summary") or [""]
    require(
        lines[0].strip() not in ("", "UNKNOWN"), "the package has no summary: add a description to [project] in pyproject.toml"
    )


def bound_on_sonant(plugin: Plugin) -> None:
    """The package requires `sonant`, below the release that may change the hooks."""
    found = [r for r in _requirements(plugin) if canonicalize_name(r.name) == "sonant"]
    hint = f'write "{hooks.requirement(sonant.__version__)}" into dependencies in pyproject.toml'
    require(found, f"the package does not require sonant: {hint}")
    bounded = any(specifier.operator in _BOUNDS for requirement in found for specifier in requirement.specifier)
    require(bounded, f"the package requires {found[0]}, without an upper bound: a release with other hooks breaks it; {hint}")


def _requirements(plugin: Plugin) -> Iterator[Requirement]:
    for line in _metadata(plugin).get_all("Requires-Dist") or ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


def _metadata(plugin: Plugin) -> PackageMetadata:
    try:
        return metadata(plugin.distribution)
    except PackageNotFoundError as error:
        raise AssertionError(f"the metadata of {plugin.distribution} cannot be found: install it with pip") from error


CHECKS = (names_of_its_own, old_names_stay, model_cards, commands, summary, bound_on_sonant)
