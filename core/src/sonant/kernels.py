"""Choosing an implementation of an operation by what the machine has.

Plugins contribute `KernelSpec`s through the hook `sonant_kernels`. The automatic choice takes the highest rank whose
requirements hold here; a backend asked for by name, in the call or as `SONANT_KERNELS="op=backend,…"`, is honoured or an error.
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
        KernelUnavailable: the backend asked for by name cannot run here; says what it lacks.

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
    for spec, plugin in found:
        lacks = _unmet(spec, device)
        if not lacks:
            return load_target(spec.target, f"kernel {spec.op} {spec.backend!r} ({plugin.label})")
        if backend != "auto":
            raise KernelUnavailable(
                f"the {backend!r} kernel of {op!r} needs {', '.join(lacks)}, which {device} tensors here do not have"
            )
    raise KernelUnavailable(f"no kernel of {op!r} runs on {device}; there are: {', '.join(s.backend for s, _ in found)}")


def refresh() -> None:
    """Forget the choices made; `sonant.plugins.refresh` calls this."""
    _get.cache_clear()
    _forced.cache_clear()
