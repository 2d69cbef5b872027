"""Configs that each break one promise."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from attrs import define, field, frozen


def _width():
    return field(default=256, metadata={"help": "width"})


@define(kw_only=True)
class Loose:
    width: int = _width()


@frozen(kw_only=True)
class Helpless:
    width: int = _width()
    secret: int = 3


@frozen(kw_only=True)
class Changed:
    width: int = field(default=256, metadata={"help": "width"}, converter=lambda width: width + 1)


@frozen(kw_only=True)
class Unwritable:
    width: int = _width()
    folder: Path = field(default=Path("here"), metadata={"help": "a folder"})


@frozen(kw_only=True, slots=False)
class Indulgent(dict[str, Any]):
    width: int = _width()


@frozen(kw_only=True)
class Named:
    width: int = field(metadata={"help": "width"})


@frozen(kw_only=True)
class Raises:
    width: int = _width()

    def __attrs_post_init__(self):
        raise ValueError("no width is wide enough")


@frozen(kw_only=True)
class Exits:
    width: int = _width()

    def __attrs_post_init__(self):
        sys.exit("no width is wide enough")


class Plain:
    width = 256
