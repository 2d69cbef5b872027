"""When two results of a task count as equal: whatever they are made of, numbers close, all else the same."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence, Set
from numbers import Real
from typing import Any, Final

import attrs
import numpy as np
import torch
from torch import Tensor

from sonant.testing import compare

_ABSOLUTE: Final = 1e-5  # what is left of float32 where numbers cancel


def difference(found: Any, wanted: Any, where: str = "") -> str:
    """Where two results differ first and how, empty if nowhere.

    Looks into tensors, arrays, mappings, sequences, attrs classes, dataclasses, and objects without an equality of their own.
    """
    if isinstance(found, Tensor) and isinstance(wanted, Tensor):
        return _of_tensors(found, wanted, where)
    if isinstance(found, np.ndarray) and isinstance(wanted, np.ndarray):
        return _of_arrays(found, wanted, where)
    if _number(found) and _number(wanted):
        both_nan = math.isnan(found) and math.isnan(wanted)
        close = both_nan or math.isclose(found, wanted, rel_tol=compare.TOLERANCE, abs_tol=_ABSOLUTE)
        return "" if close else _said(found, wanted, where)
    if type(found) is not type(wanted):
        return _said(found, wanted, where)
    parts = _parts(found), _parts(wanted)
    if parts[0] is None or parts[1] is None:
        return "" if found == wanted else _said(found, wanted, where)
    if parts[0].keys() != parts[1].keys():
        return _said(found, wanted, where)
    differences = (difference(value, parts[1][key], f"{where}{key}") for key, value in parts[0].items())
    return next(filter(None, differences), "")


def _number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, (bool, int))


def _parts(value: Any) -> dict[str, Any] | None:
    """What a value is made of, by how one gets there; None for what is compared as a whole."""
    if isinstance(value, (str, bytes, Set)):
        return None
    if isinstance(value, Mapping):
        return {f"[{key!r}]": part for key, part in value.items()}
    if isinstance(value, Sequence):
        return {f"[{n}]": part for n, part in enumerate(value)}
    return {f".{name}": part for name, part in fields} if (fields := list(_fields(value))) else None


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    if attrs.has(type(value)):
        yield from ((field.name, getattr(value, field.name)) for field in attrs.fields(type(value)))
    elif dataclasses.is_dataclass(value):
        yield from ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
    elif getattr(type(value), "__eq__", None) is object.__eq__:
        yield from getattr(value, "__dict__", {}).items()


def _of_tensors(found: Tensor, wanted: Tensor, where: str) -> str:
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return f"{where}: {found.dtype} {tuple(found.shape)} instead of {wanted.dtype} {tuple(wanted.shape)}".removeprefix(": ")
    if not (found.is_floating_point() or found.is_complex()):
        return "" if found.equal(wanted) else _said(found, wanted, where)
    finite = wanted.isfinite()
    size = float(wanted[finite].abs().double().square().mean().sqrt()) if finite.any() else 0.0
    if found.allclose(wanted, rtol=0.0, atol=max(_ABSOLUTE, compare.TOLERANCE * size), equal_nan=True):
        return ""
    if not finite.equal(found.isfinite()) or not finite.any():
        return _said(found, wanted, where)
    apart = float((found - wanted)[finite].abs().max())
    return f"{where}: values of about {size:.2g} differ by up to {apart:.2g}".removeprefix(": ")


def _of_arrays(found: Any, wanted: Any, where: str) -> str:
    if found.dtype.kind in "fc" and wanted.dtype.kind in "fc":
        return _of_tensors(torch.from_numpy(found.copy()), torch.from_numpy(wanted.copy()), where)
    return difference(found.tolist(), wanted.tolist(), where)


def _said(found: Any, wanted: Any, where: str) -> str:
    return f"{where}: {_short(found)} instead of {_short(wanted)}".removeprefix(": ")


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 120 else f"{text[:119]}…"
