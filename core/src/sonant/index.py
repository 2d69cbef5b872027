"""The packaged index `registry.yaml`: which distribution provides a component, and the model cards.

It ships inside the core's wheel, so that a name whose plugin is absent can still be explained.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import yaml


@cache
def packaged() -> dict[str, Any]:
    """The parsed `registry.yaml` of this release."""
    return yaml.safe_load(files("sonant").joinpath("registry.yaml").read_text("utf-8")) or {}


def provider(kind: str, name: str) -> str | None:
    """The distribution that provides a component, as far as this release knows."""
    return packaged().get("components", {}).get(kind, {}).get(name)
