"""Patterns for the modules and parameters of a model: paths, with `*` for anything and `0-11` for a range of numbers."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from itertools import product

from torch import nn

from sonant.errors import ConfigError

_RANGE = re.compile(r"(\d+)-(\d+)")


def expand(pattern: str) -> Iterator[str]:
    """`layers.0-2.norm*` to `layers.0.norm*`, `layers.1.norm*`, `layers.2.norm*`."""
    choices = []
    for segment in pattern.split("."):
        match = _RANGE.fullmatch(segment)
        choices.append([str(n) for n in range(int(match[1]), int(match[2]) + 1)] if match else [segment])
    return (".".join(segments) for segments in product(*choices))


def covers(pattern: str, path: str) -> bool:
    """Whether an expanded `pattern` means `path`, or what holds it."""
    expression = "".join(".*" if c == "*" else re.escape(c) for c in pattern)
    return re.fullmatch(rf"{expression}(\..*)?", path) is not None


def names(model: nn.Module) -> list[str]:
    """The paths of all modules, parameters and buffers of a model, each once."""
    modules = (name for name, _ in model.named_modules(remove_duplicate=False) if name)
    tensors = (name for found in (model.named_parameters, model.named_buffers) for name, _ in found(remove_duplicate=False))
    return list(dict.fromkeys([*modules, *tensors]))


def match(patterns: Iterable[str], known: Iterable[str], where: str) -> set[str]:
    """Those of the `known` paths that `patterns` mean.

    Raises:
        ConfigError: a pattern, or a number of its range, means none; `where` is where the patterns stand.
    """
    known = list(known)
    found: set[str] = set()
    for position, pattern in enumerate(patterns):
        for one in expand(pattern):
            meant = [path for path in known if covers(one, path)]
            if not meant:
                raise ConfigError(f"{where}[{position}]: {_nothing(pattern, one, known)}")
            found.update(meant)
        if not list(expand(pattern)):
            raise ConfigError(f"{where}[{position}]: {pattern!r} has a range that ends before it begins")
    return found


def _nothing(pattern: str, one: str, known: list[str]) -> str:
    of = "" if one == pattern else f" (of {pattern!r})"
    close = difflib.get_close_matches(one, known, n=3)
    if close:
        return f"the model has nothing called {one!r}{of}. Did you mean {', '.join(map(repr, close))}?"
    tops = sorted({path.split(".")[0] for path in known})
    return f"the model has nothing called {one!r}{of}. At the top it has {', '.join(tops)}"
