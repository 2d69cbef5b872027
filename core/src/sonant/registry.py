"""Names to specs: one name belongs to one distribution, and every failed lookup explains itself."""

from __future__ import annotations

import difflib
import threading
from collections import defaultdict
from collections.abc import Iterator
from typing import Literal

from attrs import frozen

from sonant import index, plugins
from sonant.errors import DuplicateName, UnknownName
from sonant.plugins import Plugin
from sonant.spec import KINDS, ComponentSpec, canonical, no_kind


@frozen
class Registered:
    """A component and the plugin that provides it."""

    spec: ComponentSpec
    plugin: Plugin


class Registry:
    """Every component of the given plugins, by kind and name."""

    def __init__(self, found: tuple[Plugin, ...]) -> None:
        self.plugins = found
        self._claims: dict[tuple[str, str], list[Registered]] = defaultdict(list)
        for plugin in found:
            for spec in plugin.components:
                self._claims[spec.kind, spec.name].append(Registered(spec, plugin))

    def __iter__(self) -> Iterator[Registered]:
        for key in sorted(self._claims):
            yield from self._claims[key]

    def names(self, kind: str) -> list[str]:
        """The names registered for `kind`, sorted."""
        return sorted(name for k, name in self._claims if k == kind)

    def conflicts(self) -> list[tuple[Registered, ...]]:
        """The claims of every name that more than one distribution registers."""
        return [tuple(claims) for claims in self._claims.values() if len(claims) > 1]

    def get(self, kind: str, name: str) -> Registered:
        """The component `name` of `kind`.

        Raises:
            UnknownName: nothing installed provides it; the text says what does, or comes close.
            DuplicateName: more than one distribution claims it.
        """
        claims = self._claims.get((kind, canonical(name)), [])
        if len(claims) > 1:
            raise DuplicateName(
                f"{kind} {name!r} is registered by {_both(claims)}; uninstall one, or name the ones to use in SONANT_PLUGINS"
            )
        if not claims:
            raise UnknownName(self._explain(kind, name))
        return claims[0]

    def stands_for(self, kind: str, target: str, form: Literal["nemo", "huggingface"] = "nemo") -> Registered | None:
        """The component of `kind` that a NeMo `_target_`, or a name of Hugging Face's, maps to, if any plugin has one.

        Raises:
            DuplicateName: more than one distribution claims the target.
        """
        claims = [r for r in self if r.spec.kind == kind and target in r.spec.stands_for(form)]
        if len(claims) > 1:
            whose = {"nemo": "NeMo", "huggingface": "Hugging Face"}[form]
            raise DuplicateName(f"{whose}'s {target!r} is claimed by {_both(claims)}; uninstall one, or set SONANT_PLUGINS")
        return claims[0] if claims else None

    def refusal(self, kind: str, target: str) -> str:
        """Why no component of `kind` stands for a NeMo `_target_`, where a plugin says so; else nothing."""
        name = target.rpartition(".")[2]
        reasons = (r.spec.nemo.refused.get(name) for r in self if r.spec.kind == kind and r.spec.nemo)
        return next((reason for reason in reasons if reason), "")

    def _explain(self, kind: str, name: str) -> str:
        if kind not in KINDS:
            return no_kind(kind)
        provider = index.provider(kind, canonical(name))
        if provider is not None and plugins.left_out(provider):
            return f"{kind} {name!r} is provided by {provider}, which is installed, but SONANT_PLUGINS leaves it out"
        if provider is not None and provider not in {p.distribution for p in self.plugins}:
            return f"{kind} {name!r} is provided by {provider}, which is not installed: pip install {provider}"
        text = f"no {kind} named {name!r}. "
        names = self.names(kind)
        text += _suggest(name, names)
        other = [k for k, n in self._claims if n == canonical(name) and k != kind]
        if other:
            text += f"There is a {other[0]} of that name. "
        text += f"Installed: {', '.join(names)}. " if names else f"No {kind} is installed. "
        return (text + plugins.mention_failed(self.plugins)).strip()


def _both(claims: list[Registered]) -> str:
    labels = [r.plugin.label for r in claims]
    return ("both " if len(labels) == 2 else "") + " and ".join(labels)


def _suggest(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    return f"Did you mean {' or '.join(repr(c) for c in close)}? " if close else ""


_lock = threading.Lock()
_current: Registry | None = None


def current() -> Registry:
    """The registry of this process's installed plugins."""
    global _current
    found = plugins.installed()
    with _lock:
        if _current is None:
            _current = Registry(found)
        return _current


def refresh() -> None:
    """Forget the registry; `sonant.plugins.refresh` calls this."""
    global _current
    with _lock:
        _current = None
