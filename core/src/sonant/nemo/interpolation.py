"""Interpolations in a checkpoint's config: `${a.b}` means another value of the same document, and nothing else.

NeMo's arithmetic resolvers `multiply` and `sum` are understood. Anything that would look outside the document
(`${oc.env:…}` and the like) is refused: a checkpoint must not read the machine it is opened on.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from sonant.errors import CheckpointError

_INNERMOST = re.compile(r"\$\{([^${}]*)\}")
_DEEPEST = 16
_MOST = 2_000_000  # values in the result; a few lines of YAML can stand for more than a machine holds


def resolve(document: dict[str, Any], origin: str) -> dict[str, Any]:
    """`document` with every interpolation replaced.

    Raises:
        CheckpointError: an interpolation names a resolver, a missing key, or itself.
    """
    return _Resolver(document, origin).mapping(document, 0)


class _Resolver:
    def __init__(self, document: dict[str, Any], origin: str) -> None:
        self._document, self._origin = document, origin
        self._left = _MOST

    def mapping(self, values: dict[str, Any], depth: int) -> dict[str, Any]:
        return {key: self.value(value, depth) for key, value in values.items()}

    def value(self, value: Any, depth: int) -> Any:
        self._left -= 1
        if self._left < 0:
            raise self._error(f"the document stands for more than {_MOST:,} values; refused")
        if isinstance(value, dict):
            return self.mapping(value, depth)
        if isinstance(value, list):
            return [self.value(v, depth) for v in value]
        if not isinstance(value, str) or "${" not in value:
            return value
        if depth > _DEEPEST:
            raise self._error(f"the interpolation {value!r} refers to itself")
        match = _INNERMOST.fullmatch(value)
        if match:
            return self.value(self._evaluate(match[1]), depth + 1)
        text = _INNERMOST.sub(lambda m: str(self._evaluate(m[1])), value)
        if text == value:
            raise self._error(f"cannot read the interpolation {value!r}")
        return self.value(text, depth + 1)

    def _evaluate(self, expression: str) -> Any:
        resolver, colon, arguments = expression.partition(":")
        if not colon:
            return self._lookup(expression)
        if resolver in ("multiply", "sum"):
            numbers = self._numbers(arguments)
            return math.prod(numbers) if resolver == "multiply" else sum(numbers)
        raise self._error(f"the interpolation '${{{expression}}}' would look outside the document; refused")

    def _numbers(self, arguments: str) -> list[Any]:
        try:
            numbers = [yaml.safe_load(a) for a in arguments.split(",")]
        except yaml.YAMLError:
            numbers = [None]
        if not all(isinstance(n, (int, float)) for n in numbers):
            raise self._error(f"cannot calculate with {arguments!r}: only with numbers")
        return numbers

    def _lookup(self, dotted: str) -> Any:
        value: Any = self._document
        for key in dotted.strip().split("."):
            if isinstance(value, dict) and key in value:
                value = value[key]
            elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
                value = value[int(key)]
            else:
                raise self._error(f"the interpolation '${{{dotted}}}' names a key that does not exist")
        return value

    def _error(self, text: str) -> CheckpointError:
        return CheckpointError(f"{self._origin}: {text}")
