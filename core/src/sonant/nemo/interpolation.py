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


def resolve(document: dict[str, Any], origin: str) -> dict[str, Any]:
    """`document` with every interpolation replaced.

    Raises:
        CheckpointError: an interpolation names a resolver, a missing key, or itself.
    """
    return {key: _value(value, document, origin, 0) for key, value in document.items()}


def _value(value: Any, document: dict[str, Any], origin: str, depth: int) -> Any:
    if isinstance(value, dict):
        return {k: _value(v, document, origin, depth) for k, v in value.items()}
    if isinstance(value, list):
        return [_value(v, document, origin, depth) for v in value]
    if not isinstance(value, str) or "${" not in value:
        return value
    if depth > _DEEPEST:
        raise CheckpointError(f"{origin}: the interpolation {value!r} refers to itself")
    match = _INNERMOST.fullmatch(value)
    if match:
        return _value(_evaluate(match[1], document, origin), document, origin, depth + 1)
    text = _INNERMOST.sub(lambda m: str(_evaluate(m[1], document, origin)), value)
    if text == value:
        raise CheckpointError(f"{origin}: cannot read the interpolation {value!r}")
    return _value(text, document, origin, depth + 1)


def _evaluate(expression: str, document: dict[str, Any], origin: str) -> Any:
    resolver, colon, arguments = expression.partition(":")
    if not colon:
        return _lookup(expression, document, origin)
    numbers = [yaml.safe_load(a) for a in arguments.split(",")]
    if resolver in ("multiply", "sum") and all(isinstance(n, (int, float)) for n in numbers):
        return math.prod(numbers) if resolver == "multiply" else sum(numbers)
    raise CheckpointError(f"{origin}: the interpolation '${{{expression}}}' would look outside the document; refused")


def _lookup(dotted: str, document: dict[str, Any], origin: str) -> Any:
    value: Any = document
    for key in dotted.strip().split("."):
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            raise CheckpointError(f"{origin}: the interpolation '${{{dotted}}}' names a key that does not exist")
    return value
