"""Finding installed plugins, each in isolation: a broken one is recorded and never breaks the host.

Discovery reads entry-point metadata and imports each plugin's light module; no torch code runs.
`SONANT_PLUGINS=a,b` restricts discovery to those distributions (empty: none).
`SONANT_DEBUG_PLUGINS=1` raises the first failure instead of recording it.
"""

from __future__ import annotations

import os
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from importlib.resources.abc import Traversable
from types import ModuleType
from typing import Any

import pluggy
from attrs import evolve, field, frozen

from sonant import hooks
from sonant.errors import PluginError
from sonant.spec import ComponentSpec, KernelSpec


@frozen(kw_only=True)
class Plugin:
    """One entry point of the group, loaded or not."""

    distribution: str
    version: str
    module: str
    components: tuple[ComponentSpec, ...] = ()
    kernels: tuple[KernelSpec, ...] = ()
    cards: tuple[Traversable, ...] = field(default=(), repr=False)
    commands: Callable[..., None] | None = field(default=None, repr=False)
    error: str = ""
    traceback: str = field(default="", repr=False)
    seconds: float = 0.0

    @property
    def label(self) -> str:
        """`sonant-asr 0.1.0`"""
        return f"{self.distribution} {self.version}"


def _normal(name: str) -> str:
    """Distribution names compare without regard to case and to `-`, `_` and `.`, as pip compares them."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _allowed() -> frozenset[str] | None:
    names = os.environ.get("SONANT_PLUGINS")
    if names is None:
        return None
    return frozenset(_normal(n) for n in names.split(",") if n.strip())


def _check_api(module: ModuleType) -> None:
    stated = getattr(module, "SONANT_API", None)
    if stated is None:
        raise PluginError(f"{module.__name__} does not state the hook API it was written for: add SONANT_API = {hooks.HOOK_API}")
    if stated != hooks.HOOK_API:
        raise PluginError(
            f"written for hook API {stated}, this Sonant has {hooks.HOOK_API}; "
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
    manager.register(module, name=distribution)  # checks every hook's arguments
    manager.check_pending()  # catches a misspelt hook name

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
    )
    _check_unique(plugin)
    return plugin


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


def _discover() -> tuple[Plugin, ...]:
    allowed = _allowed()
    if allowed is not None and not allowed:
        return ()
    debug = os.environ.get("SONANT_DEBUG_PLUGINS", "") not in ("", "0")
    found = []
    for entry in sorted(entry_points(group=hooks.ENTRY_POINT_GROUP), key=lambda e: (_identity(e), e.name)):
        distribution, version = _identity(entry)
        if allowed is not None and not {_normal(distribution), _normal(entry.name)} & allowed:
            continue
        start = time.perf_counter()
        try:
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
        found.append(evolve(plugin, seconds=time.perf_counter() - start))
    return tuple(found)


_lock = threading.Lock()
_found: tuple[Plugin, ...] | None = None


def installed() -> tuple[Plugin, ...]:
    """All plugins, loaded and failed, in order of distribution name. Found once a process."""
    global _found
    with _lock:
        if _found is None:
            _found = _discover()
        return _found


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
