"""Finding installed plugins, each in isolation: a broken one is recorded and never breaks the host.

Discovery reads entry-point metadata and imports each plugin's light module; no torch code runs. A module that takes its time is
waited for, since what a command can do must not depend on how busy the machine is; the wait is explained while it lasts.
`SONANT_PLUGINS=a,b` restricts discovery to those distributions (empty: none).
`SONANT_DEBUG_PLUGINS=1` raises the first failure instead of recording it.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import EntryPoint, distributions, entry_points
from importlib.resources.abc import Traversable
from types import ModuleType
from typing import Any, Final

import pluggy
from attrs import evolve, field, frozen

import sonant
from sonant import hooks
from sonant.errors import PluginError
from sonant.spec import ComponentSpec, KernelSpec

log = logging.getLogger(__name__)

_PATIENCE: Final = 2.0  # seconds of waiting for one plugin before the user is told for whom
_SLOW: Final = 1.0  # seconds from which a plugin's import is worth a note


@frozen(kw_only=True)
class Plugin:
    """One entry point of the group, loaded or not.

    `error` says why it cannot be used; `notes` are sentences on what its users or its maintainer should know although it works.
    """

    distribution: str
    version: str
    module: str
    components: tuple[ComponentSpec, ...] = ()
    kernels: tuple[KernelSpec, ...] = ()
    cards: tuple[Traversable, ...] = field(default=(), repr=False)
    commands: Callable[..., None] | None = field(default=None, repr=False)
    error: str = ""
    notes: tuple[str, ...] = ()
    traceback: str = field(default="", repr=False)
    seconds: float = 0.0

    @property
    def label(self) -> str:
        """`sonant-asr 0.1.0`"""
        return f"{self.distribution} {self.version}"


def normalized(name: str) -> str:
    """Distribution names compare without regard to case and to `-`, `_` and `.`, as pip compares them."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _allowed() -> frozenset[str] | None:
    names = os.environ.get("SONANT_PLUGINS")
    if names is None:
        return None
    return frozenset(normalized(n) for n in names.split(",") if n.strip())


def _check_api(module: ModuleType) -> None:
    stated = getattr(module, "SONANT_API", None)
    if stated is None:
        raise PluginError(f"{module.__name__} does not state the hook API it was written for: add SONANT_API = {hooks.HOOK_API}")
    if stated != hooks.HOOK_API:
        raise PluginError(
            f"written for hook API {stated!r}, this Sonant has {hooks.HOOK_API}; "
            "install a release of the plugin (or of sonant) that matches"
        )


def _check_unmarked(module: ModuleType) -> None:
    """A hook without `@hookimpl` would be ignored silently."""
    for name, value in vars(module).items():
        if name.startswith("sonant_") and callable(value) and not hasattr(value, f"{hooks.PROJECT}_impl"):
            raise PluginError(f"{module.__name__}.{name} lacks @sonant.hookimpl")


def _collect(value: Any, kind: type, hook: str) -> tuple[Any, ...]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise PluginError(f"{hook} returned {type(value).__name__}, not an iterable of {kind.__name__}")
    items = tuple(value)
    for item in items:
        if not isinstance(item, kind):
            raise PluginError(f"{hook} returned a {type(item).__name__} among its items; each must be a {kind.__name__}")
    return items


def _load(entry: EntryPoint, distribution: str, version: str) -> Plugin:
    module = entry.load()
    if not isinstance(module, ModuleType):
        raise PluginError(f"entry point {entry.name!r} names {entry.value!r}, which is not a module")
    _check_api(module)
    _check_unmarked(module)
    manager = pluggy.PluginManager(hooks.PROJECT)
    manager.add_hookspecs(hooks)
    deprecations = _register(manager, module, distribution)

    def call(hook: str, kind: type) -> tuple[Any, ...]:
        caller = getattr(manager.hook, hook)
        if not caller.get_hookimpls():
            return ()
        results = caller()  # pluggy leaves out a None, which here is a forgotten return
        return _collect(results[0] if results else None, kind, hook)

    implementations = manager.hook.sonant_commands.get_hookimpls()
    plugin = Plugin(
        distribution=distribution,
        version=version,
        module=entry.value,
        components=call("sonant_components", ComponentSpec),
        kernels=call("sonant_kernels", KernelSpec),
        cards=call("sonant_model_cards", Traversable),
        commands=manager.hook.sonant_commands if implementations else None,
        notes=deprecations,
    )
    _check_unique(plugin)
    return plugin


def _register(manager: pluggy.PluginManager, module: ModuleType, distribution: str) -> tuple[str, ...]:
    """Check the hooks that a module implements; returns what pluggy says of those marked with `warn_on_impl`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        manager.register(module, name=distribution)  # checks every hook's arguments
    _check_known(module)
    return tuple(str(warning.message) for warning in caught)


def _check_known(module: ModuleType) -> None:
    """A misspelt hook would be ignored silently."""
    known = sorted(name for name in vars(hooks) if name.startswith("sonant_"))
    for name, value in vars(module).items():
        if hasattr(value, f"{hooks.PROJECT}_impl") and name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise PluginError(
                f"unknown hook {name!r}.{hint} sonant {sonant.__version__} has {', '.join(known)}; "
                "a hook of a later release needs that release"
            )


def _check_unique(plugin: Plugin) -> None:
    claims = [f"{s.kind} {s.name!r}" for s in plugin.components] + [f"kernel {k.op} {k.backend!r}" for k in plugin.kernels]
    twice = sorted({claim for claim in claims if claims.count(claim) > 1})
    if twice:
        raise PluginError(f"registers {', '.join(twice)} more than once")


def _identity(entry: EntryPoint) -> tuple[str, str]:
    """Distribution and version, even where the metadata is damaged."""
    if entry.dist is None:
        return entry.name, "?"
    stated = entry.dist.metadata.json
    return str(stated.get("name", entry.name)), str(stated.get("version", "?"))


@contextmanager
def _explained_wait(label: str, module: str) -> Iterator[None]:
    text = "waiting for the plugin %s: importing %s takes long (SONANT_PLUGINS names the only plugins to use; Ctrl-C gives up)"
    timer = threading.Timer(_PATIENCE, log.warning, (text, label, module))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _notes(plugin: Plugin, seconds: float) -> tuple[str, ...]:
    """What can be said of a plugin that loaded, beside what it says itself."""
    found = []
    if seconds > _SLOW:
        found.append(
            f"importing it took {seconds:.1f} s, and every command waits for it: "
            "its module and configs must import only sonant and the standard library"
        )
    copies = {str(copy.locate_file("")): copy.version for copy in distributions(name=plugin.distribution)}
    used = next(iter(copies), "")  # the first on the path; an editable install may have a second copy of the same version
    others = [folder for folder, version in copies.items() if version != copies[used]]
    found += [f"another copy, {copies[folder]} in {folder}, is hidden by the one in {used}" for folder in others]
    return tuple(found)


def _discover() -> tuple[Plugin, ...]:
    allowed = _allowed()
    if allowed is not None and not allowed:
        return ()
    debug = os.environ.get("SONANT_DEBUG_PLUGINS", "") not in ("", "0")
    found = []
    entries = [(*_identity(entry), entry) for entry in entry_points(group=hooks.ENTRY_POINT_GROUP)]
    for distribution, version, entry in sorted(entries, key=lambda e: (e[0], e[1], e[2].name)):
        if allowed is not None and normalized(distribution) not in allowed:
            continue
        start = time.perf_counter()
        try:
            with _explained_wait(f"{distribution} {version}", entry.module), redirect_stdout(sys.stderr):
                plugin = _load(entry, distribution, version)
        except (Exception, SystemExit) as error:
            if debug:
                raise
            plugin = Plugin(
                distribution=distribution,
                version=version,
                module=entry.value,
                error=f"{type(error).__name__}: {error}",
                traceback=traceback.format_exc(),
            )
        seconds = time.perf_counter() - start
        found.append(evolve(plugin, seconds=seconds, notes=plugin.notes + _notes(plugin, seconds)))
    return tuple(found)


_lock = threading.RLock()
_found: tuple[Plugin, ...] | None = None
_discovering = False


def installed() -> tuple[Plugin, ...]:
    """All plugins, loaded and failed, in order of distribution name. Found once a process.

    Raises:
        PluginError: a plugin's module asks while it is itself being imported.
    """
    global _found, _discovering
    with _lock:
        if _found is None:
            if _discovering:
                raise PluginError(
                    "asks for the installed plugins while it is being imported: a plugin's module only describes, "
                    "so look names up in the code that it names"
                )
            _discovering = True
            try:
                _found = _discover()
            finally:
                _discovering = False
        return _found


def left_out(distribution: str) -> bool:
    """Whether a distribution is installed and `SONANT_PLUGINS` leaves it out."""
    allowed = _allowed()
    return allowed is not None and normalized(distribution) not in allowed and any(distributions(name=distribution))


def unknown(names: Iterable[str]) -> str:
    """What to say of distributions that provide no plugin: not installed, left out, or without an entry point."""
    said = []
    for name in names:
        if not any(distributions(name=name)):
            said.append(f"no plugin called {name} is installed")
        elif left_out(name):
            said.append(f"{name} is installed, but SONANT_PLUGINS leaves it out")
        else:
            said.append(
                f"{name} is installed, but has no entry point in the group {hooks.ENTRY_POINT_GROUP!r}; "
                "see to its pyproject.toml, and pip install it again"
            )
    return "; ".join(said)


def mention_failed(found: Iterable[Plugin]) -> str:
    """A sentence on the plugins that did not load, for the errors of failed lookups; empty if all did."""
    failed = [p.distribution for p in found if p.error]
    if not failed:
        return ""
    count = "1 plugin" if len(failed) == 1 else f"{len(failed)} plugins"
    return f"{count} failed to load: {', '.join(failed)} (run `sonant plugins`)."


def refresh() -> None:
    """Forget what was found, so that the next use looks again (after an installation in this process)."""
    global _found
    with _lock:
        _found = None
    from sonant import kernels, registry

    registry.refresh()
    kernels.refresh()
