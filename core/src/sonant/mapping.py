"""The tables that carry a foreign config and state dict (NeMo's, Hugging Face's) to Sonant's and back.

A plugin writes one `ComponentMapping` for each component that has a counterpart there: a function that reads the foreign
section, one that writes it, and a list of tensor names. Reading goes through `ForeignSection`, which accounts for every key:
one nobody asked for is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from attrs import field, frozen

from sonant.config import ModelConfig, fill_model
from sonant.errors import CheckpointError, ConfigError, SonantError
from sonant.files import Files
from sonant.weights import State

_ABSENT = object()


class ForeignSection:
    """One section of a foreign config, read key by key until nothing is left. `form` says whose, in errors."""

    def __init__(self, values: Mapping[str, Any], path: str, form: str = "NeMo") -> None:
        if not isinstance(values, Mapping):
            raise CheckpointError(f"{path} in the {form} config is {values!r}, not a section")
        self.path, self.form = path, form
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
                raise CheckpointError(f"the {self.form} config lacks {f'{self.path}.{key}'.lstrip('.')}")
            return default
        return value

    def section(self, key: str) -> ForeignSection:
        """The subsection `key`."""
        return ForeignSection(self.take(key), f"{self.path}.{key}".lstrip("."), self.form)

    def expect(self, key: str, *allowed: Any) -> None:
        """Account for a key of which only some values are supported; absent means the first of them.

        Raises:
            CheckpointError: another value, with the ones that are supported.
        """
        value = self._left.pop(key, allowed[0])
        if value not in allowed:
            raise CheckpointError(
                f"{self.path}.{key}".lstrip(".")
                + f" is {value!r}, which Sonant does not support; supported: {', '.join(map(repr, allowed))}"
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
            raise CheckpointError(f"the {self.form} config has keys that Sonant does not know: {names}")
        return self.dropped


@frozen
class Rename:
    """One row of a tensor table: the foreign name and ours; `{}` stands for one or more name segments.

    `shape="conv1x1"` says that there a (out, in, 1) convolution is kept where we have a (out, in) linear layer;
    `"batch"` that there is a leading axis of one.
    """

    theirs: str
    ours: str
    shape: Literal["same", "conv1x1", "batch"] = "same"

    def _convert(self, name: str, source: str, target: str) -> str | None:
        match = _pattern(source).fullmatch(name)
        return None if match is None else _fill(target, match.groups())

    def read(self, name: str) -> str | None:
        """Our name for the foreign `name`, or None where this row does not speak of it."""
        return self._convert(name, self.theirs, self.ours)

    def write(self, name: str) -> str | None:
        """The foreign name for our `name`, or None."""
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
    raise CheckpointError("this component cannot be written in that form")


@frozen(kw_only=True)
class ComponentMapping:
    """How one component's config and tensors correspond to those of a foreign form.

    `read` returns the section of a Sonant config; with a `name` in it, another component of the same kind may be chosen.
    `write` takes the filled attrs config and the sizes given at assembly.
    `tensors` is the table of tensor names, or a function that gives it for a filled section where it depends on that.
    `ignored` are patterns of foreign tensors that carry nothing (older files have some).
    `derived` computes, from the filled attrs config, those tensors of ours that the foreign form does not hold.
    """

    read: Callable[[ForeignSection], dict[str, Any]]
    write: Callable[..., dict[str, Any]] = field(default=_identity)
    tensors: tuple[Rename, ...] | Callable[[Mapping[str, Any]], tuple[Rename, ...]] = ()
    ignored: tuple[str, ...] = ()
    derived: Callable[[Any], State] | None = None


@frozen
class Placed:
    """Where a part of the task stands in the foreign file: its filled section and the prefix of its tensors."""

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
    """How a task's foreign config splits into parts, and is put together again.

    `read(doc, reader)` returns the Sonant task section and the parts as `Placed`; `write(model_config, writer)` returns
    the foreign document and the same placement.
    """

    read: Callable[..., tuple[dict[str, Any], dict[str, Placed]]]
    write: Callable[..., tuple[dict[str, Any], dict[str, Placed]]]


@frozen
class Converted:
    """A converted checkpoint: a config to assemble, the files it names, tensors for `load_into`, and the report."""

    config: ModelConfig
    files: Files
    state: State
    notes: tuple[str, ...]


def fill(task: str, values: Mapping[str, Any], parts: Mapping[str, Placed], origin: str) -> ModelConfig:
    """The filled config of what a task's mapping read: the task's own values, and a section for each part.

    Raises:
        CheckpointError: it does not hold together.
    """
    data = {"task": {"name": task, **values}} | {key: dict(part.section) for key, part in parts.items()}
    try:
        return fill_model(data)
    except ConfigError as error:
        raise CheckpointError(f"{origin}: {error}") from error


@contextmanager
def located(origin: str, form: str) -> Iterator[None]:
    """Errors of reading a foreign config say which one; a table that met a list where it knows a number is one too."""
    try:
        yield
    except CheckpointError as error:
        if origin in str(error):
            raise
        raise CheckpointError(f"{origin}: {error}") from error
    except SonantError:
        raise
    except RecursionError as error:
        raise CheckpointError(f"{origin}: its config is nested too deeply") from error
    except (AttributeError, TypeError, ValueError, LookupError, ArithmeticError) as error:
        raise CheckpointError(f"{origin}: its config is not of the form that {form} writes ({error})") from error


def read_state(theirs: State, parts: Mapping[str, Placed], origin: str) -> tuple[State, list[str]]:
    """Our tensors by our names, and the names of those that the tables ignore.

    Raises:
        CheckpointError: tensors that no table knows, by name; or tensors that are one with us, and differ.
    """
    ours: State = {}
    ignored, unknown = [], []
    for name, tensor in theirs.items():
        found = _to_ours(name, tensor, parts)
        if found is not None:
            if found[0] in ours and not torch.equal(ours[found[0]], found[1]):
                raise CheckpointError(f"{origin}: {name} differs from a tensor that it is tied to; Sonant has one for both")
            ours[found[0]] = found[1]
        elif any(fnmatchcase(name, part.prefix + pattern) for part in parts.values() for pattern in part.mapping.ignored):
            ignored.append(name)
        else:
            unknown.append(name)
    if unknown:
        shown = ", ".join(unknown[:4]) + (f" and {len(unknown) - 4} more" if len(unknown) > 4 else "")
        raise CheckpointError(f"{origin}: {len(unknown)} tensors left over that no table knows: {shown}")
    return ours, ignored


def _to_ours(name: str, tensor: torch.Tensor, parts: Mapping[str, Placed]) -> tuple[str, torch.Tensor] | None:
    for key, part in parts.items():
        if name.startswith(part.prefix):
            for row in part.tensors:
                renamed = row.read(name.removeprefix(part.prefix))
                if renamed is not None:
                    return f"{key}.{renamed}", row.to_ours(tensor)
    return None


def write_state(ours: State, parts: Mapping[str, Placed], form: str) -> State:
    """Foreign tensors by their names.

    Raises:
        CheckpointError: a tensor has no name in that form.
    """
    theirs: State = {}
    for name, tensor in ours.items():
        key, _, rest = name.partition(".")
        rows = [row for row in (parts[key].tensors if key in parts else ()) if row.write(rest) is not None]
        if not rows:
            raise CheckpointError(f"the tensor {name} has no name in {form}")
        for row in rows:  # several where tied tensors are stored under each of their names
            theirs[f"{parts[key].prefix}{row.write(rest)}"] = row.to_theirs(tensor.detach()).cpu().contiguous()
    return theirs
