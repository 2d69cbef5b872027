"""The tables that carry a NeMo config and state dict to Sonant's and back.

A plugin writes one `ComponentMapping` for each component that has a counterpart in NeMo: a
function that reads NeMo's section, one that writes it, and a list of tensor names.
Reading goes through `NemoSection`, which accounts for every key: one nobody asked for is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from attrs import field, frozen

from sonant.errors import CheckpointError

_ABSENT = object()


class NemoSection:
    """One section of a NeMo config, read key by key until nothing is left."""

    def __init__(self, values: Mapping[str, Any], path: str) -> None:
        if not isinstance(values, Mapping):
            raise CheckpointError(f"{path} in the NeMo config is {values!r}, not a section")
        self.path = path
        self._left = dict(values)
        self.dropped: list[str] = []

    def __contains__(self, key: str) -> bool:
        return self._left.get(key) is not None

    def keys(self) -> list[str]:
        """The keys that are left."""
        return list(self._left)

    def peek(self, key: str, default: Any = None) -> Any:
        """The value of `key` without accounting for it."""
        return self._left.get(key, default)

    def take(self, key: str, default: Any = _ABSENT) -> Any:
        """The value of `key`, accounted for.

        Raises:
            CheckpointError: it is absent and there is no default.
        """
        value = self._left.pop(key, _ABSENT)
        if value is _ABSENT:
            if default is _ABSENT:
                raise CheckpointError(f"the NeMo config lacks {self.path}.{key}")
            return default
        return value

    def section(self, key: str) -> NemoSection:
        """The subsection `key`."""
        return NemoSection(self.take(key), f"{self.path}.{key}".lstrip("."))

    def expect(self, key: str, *allowed: Any) -> None:
        """Account for a key of which only some values are supported; absent means the first of them.

        Raises:
            CheckpointError: another value, with the ones that are supported.
        """
        value = self._left.pop(key, allowed[0])
        if value not in allowed:
            raise CheckpointError(
                f"{self.path}.{key} is {value!r}, which Sonant does not support; supported: {', '.join(map(repr, allowed))}"
            )

    def drop(self, *keys: str) -> None:
        """Account for keys that do not change what the model computes; they appear in the report."""
        for key in keys:
            if self._left.pop(key, None) is not None:
                self.dropped.append(f"{self.path}.{key}".lstrip("."))

    def finish(self) -> list[str]:
        """What was dropped.

        Raises:
            CheckpointError: keys are left that nobody accounted for.
        """
        if self._left:
            names = ", ".join(f"{self.path}.{k}".lstrip(".") for k in sorted(self._left, key=str))
            raise CheckpointError(f"the NeMo config has keys that Sonant does not know: {names}")
        return self.dropped


@frozen
class Rename:
    """One row of a tensor table: NeMo's name and ours; `{}` stands for one or more name segments.

    `shape="conv1x1"` says that NeMo keeps a (out, in, 1) convolution where we have a (out, in) linear layer;
    `"batch"` that NeMo has a leading axis of one.
    """

    theirs: str
    ours: str
    shape: Literal["same", "conv1x1", "batch"] = "same"

    def _convert(self, name: str, source: str, target: str) -> str | None:
        match = _pattern(source).fullmatch(name)
        return None if match is None else _fill(target, match.groups())

    def read(self, name: str) -> str | None:
        """Our name for NeMo's `name`, or None where this row does not speak of it."""
        return self._convert(name, self.theirs, self.ours)

    def write(self, name: str) -> str | None:
        """NeMo's name for our `name`, or None."""
        return self._convert(name, self.ours, self.theirs)

    def to_ours(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.shape == "conv1x1" and tensor.ndim == 3 and tensor.shape[-1] == 1:
            return tensor.squeeze(-1)
        if self.shape == "batch" and tensor.ndim > 0 and tensor.shape[0] == 1:
            return tensor.squeeze(0)
        return tensor

    def to_theirs(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.shape == "conv1x1" and tensor.ndim == 2:
            return tensor.unsqueeze(-1)
        return tensor.unsqueeze(0) if self.shape == "batch" else tensor


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile("(.+)".join(re.escape(piece) for piece in template.split("{}")))


def _fill(template: str, groups: Iterable[str]) -> str:
    values = iter(groups)
    return re.sub(r"\{\}", lambda _: next(values), template)


def _identity(config: Any) -> dict[str, Any]:
    raise CheckpointError("this component cannot be written as NeMo")


@frozen(kw_only=True)
class ComponentMapping:
    """How one component's config and tensors correspond to NeMo's.

    `read` returns the section of a Sonant config; with a `name` in it, another component of the same kind may be chosen.
    `write` takes the filled attrs config and the sizes given at assembly.
    `tensors` is the table of tensor names, or a function that gives it for a filled section where it depends on that.
    `ignored` are patterns of NeMo tensors that carry nothing (older files have some).
    """

    read: Callable[[NemoSection], dict[str, Any]]
    write: Callable[..., dict[str, Any]] = field(default=_identity)
    tensors: tuple[Rename, ...] | Callable[[Mapping[str, Any]], tuple[Rename, ...]] = ()
    ignored: tuple[str, ...] = ()


@frozen
class Placed:
    """Where a part of the task stands in the NeMo file: its filled section and the prefix of its tensors."""

    section: Mapping[str, Any]
    prefix: str
    mapping: ComponentMapping

    @property
    def tensors(self) -> tuple[Rename, ...]:
        """The rows that name this part's tensors."""
        rows = self.mapping.tensors
        return rows(self.section) if callable(rows) else rows


@frozen(kw_only=True)
class TaskMapping:
    """How a task's NeMo config splits into parts, and is put together again.

    `read(doc, reader)` returns the Sonant task section and the parts as `Placed`; `write(model_config, writer)` returns
    NeMo's document and the same placement.
    """

    read: Callable[..., tuple[dict[str, Any], dict[str, Placed]]]
    write: Callable[..., tuple[dict[str, Any], dict[str, Placed]]]
