"""Sonant: a plugin-based model registry and runtime for speech AI.

Importing this module imports neither torch nor any plugin: every public name is
fetched from its own module when it is first used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sonant.build import build as build
    from sonant.checkpoint import load as load
    from sonant.checkpoint import save as save
    from sonant.exporting import export as export
    from sonant.hooks import HOOK_API as HOOK_API
    from sonant.hooks import hookimpl as hookimpl
    from sonant.inspection import inspect as inspect
    from sonant.spec import ComponentSpec as ComponentSpec
    from sonant.spec import HuggingFaceSpec as HuggingFaceSpec
    from sonant.spec import KernelSpec as KernelSpec
    from sonant.spec import NemoSpec as NemoSpec
    from sonant.spec import Part as Part

__version__ = "0.1.0"

_HOME = {
    "build": "sonant.build",
    "load": "sonant.checkpoint",
    "save": "sonant.checkpoint",
    "export": "sonant.exporting",
    "hookimpl": "sonant.hooks",
    "inspect": "sonant.inspection",
    "HOOK_API": "sonant.hooks",
    "ComponentSpec": "sonant.spec",
    "HuggingFaceSpec": "sonant.spec",
    "KernelSpec": "sonant.spec",
    "NemoSpec": "sonant.spec",
    "Part": "sonant.spec",
}

__all__ = [
    "HOOK_API",
    "ComponentSpec",
    "HuggingFaceSpec",
    "KernelSpec",
    "NemoSpec",
    "Part",
    "__version__",
    "build",
    "export",
    "hookimpl",
    "inspect",
    "load",
    "save",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sonant' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """Importing the module `sonant.build` must not put it in the place of the function of that name."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
