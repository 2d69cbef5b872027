"""Choosing an implementation of an operation by what the machine has.

Plugins contribute `KernelSpec`s through the hook `sonant_kernels`. The automatic choice takes the highest rank whose
requirements hold here and, if it may refuse inputs, for each call the highest that takes them; a backend asked for by name, in
the call or as `SONANT_KERNELS="op=backend,…"`, is honoured or an error.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from functools import cache
from typing import Any

from sonant import plugins
from sonant.config import load_target
from sonant.errors import ConfigError, DuplicateName, KernelUnavailable, UnknownName
from sonant.plugins import Plugin
from sonant.spec import KernelSpec


def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


REQUIREMENTS: dict[str, Callable[[str], bool]] = {
    "cuda": lambda device: device == "cuda",
    "cpu": lambda device: device == "cpu",
    "triton": lambda device: _has_triton(),
}
"""What a kernel can require, each decided from the type of the device its inputs are on."""


def available(op: str) -> list[tuple[KernelSpec, Plugin]]:
    """Every implementation of `op`, highest rank first.

    Raises:
        DuplicateName: two distributions provide the same backend of it.
    """
    found = [(k, p) for p in plugins.installed() for k in p.kernels if k.op == op]
    seen: dict[str, Plugin] = {}
    for spec, plugin in found:
        if spec.backend in seen:
            both = f"{seen[spec.backend].label} and {plugin.label}"
            raise DuplicateName(
                f"the {spec.backend!r} kernel of {op!r} comes from both {both}; uninstall one, or set SONANT_PLUGINS"
            )
        seen[spec.backend] = plugin
    return sorted(found, key=lambda item: -item[0].rank)


def _unmet(spec: KernelSpec, device: str) -> list[str]:
    return [r for r in spec.requires if r not in REQUIREMENTS or not REQUIREMENTS[r](device)]


@cache
def _forced(setting: str) -> dict[str, str]:
    """The backends that `SONANT_KERNELS` asks for, by operation.

    Raises:
        ConfigError: an item is not of the form `op=backend`, or no installed plugin implements the operation.
    """
    known = sorted({k.op for p in plugins.installed() for k in p.kernels})
    forced = {}
    for item in filter(None, map(str.strip, setting.split(","))):
        op, _, backend = item.partition("=")
        if not backend or op not in known:
            raise ConfigError(f"SONANT_KERNELS: {item!r} is not op=backend with an op of: {', '.join(known) or 'none'}")
        forced[op] = backend
    return forced


def get(op: str, device: str, backend: str = "auto") -> Callable[..., Any]:
    """The function that computes `op` for tensors on a device of type `device` (`cpu`, `cuda`).

    Raises:
        ConfigError: `SONANT_KERNELS` is malformed.
        UnknownName: no installed plugin implements `op`, or none has that backend.
        KernelUnavailable: the backend asked for by name cannot run here; says what it lacks. The function raises it too, where
            that backend does not take its arguments.

    In a graph that is exported it is the backend `reference`, whatever is asked for: that one takes any shape.
    """
    if _is_exporting():
        return _get(op, device, "reference")
    if backend == "auto":
        backend = _forced(os.environ.get("SONANT_KERNELS", "")).get(op, "auto")
    return _get(op, device, backend)


def _is_exporting() -> bool:
    import torch  # here, so that listing kernels needs none

    return torch.compiler.is_exporting()


@cache
def _get(op: str, device: str, backend: str) -> Callable[..., Any]:
    found = available(op)
    if not found:
        raise UnknownName(
            f"no installed plugin implements the operation {op!r}. {plugins.mention_failed(plugins.installed())}".strip()
        )
    if backend != "auto":
        found = [item for item in found if item[0].backend == backend]
        if not found:
            names = ", ".join(spec.backend for spec, _ in available(op))
            raise UnknownName(f"the operation {op!r} has no backend {backend!r}; there are: {names}")
    able = [item for item in found if not _unmet(item[0], device)]
    if able:
        return _first_that_takes(able, by_name=backend != "auto")
    if backend != "auto":
        lacks = ", ".join(_unmet(found[0][0], device))
        raise KernelUnavailable(f"the {backend!r} kernel of {op!r} needs {lacks}, which {device} tensors here do not have")
    raise KernelUnavailable(f"no kernel of {op!r} runs on {device}; there are: {', '.join(s.backend for s, _ in found)}")


def _first_that_takes(able: list[tuple[KernelSpec, Plugin]], *, by_name: bool) -> Callable[..., Any]:
    """The first, or where it may refuse inputs a function that asks it, and hands them on to the others if it does."""
    (spec, plugin), *others = able
    where = f"kernel {spec.op} {spec.backend!r} ({plugin.label})"
    compute = load_target(spec.target, where)
    if not spec.refuses:
        return compute
    refuses = load_target(spec.refuses, f"{where}, refuses")
    instead = _first_that_takes(others, by_name=False) if others else None

    def ask(*args: Any, **kwargs: Any) -> Any:
        reason = refuses(*args, **kwargs)
        if reason is None:
            return compute(*args, **kwargs)
        if instead is not None:
            return instead(*args, **kwargs)
        if by_name:
            raise KernelUnavailable(f"the {spec.backend!r} kernel of {spec.op!r} does not take these inputs: {reason}")
        raise KernelUnavailable(f"no kernel of {spec.op!r} takes these inputs; the last one, {spec.backend!r}: {reason}")

    return ask


def refresh() -> None:
    """Forget the choices made; `sonant.plugins.refresh` calls this."""
    _get.cache_clear()
    _forced.cache_clear()
