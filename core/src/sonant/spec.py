"""What a plugin declares: strings only, so that describing a component imports nothing.

A spec says where a component's code is (`target`), what its config looks like (`config`),
and a config small enough for a unit test (`tiny`). Torch is imported when `target` is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, get_args

from attrs import Attribute, field, frozen

Kind = Literal[
    "task",
    "preprocessor",
    "augmentation",
    "encoder",
    "decoder",
    "search",
    "tokenizer",
    "text_frontend",
    "vocoder",
    "codec",
    "clusterer",
    "loss",
    "optimizer",
    "scheduler",
]
KINDS: tuple[str, ...] = get_args(Kind)

_NAME = re.compile(r"([a-z][a-z0-9_-]*/)?[a-z][a-z0-9_]*(\.v[0-9]+)?")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def _check_name(_: Any, attribute: Attribute[str], value: str) -> None:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(
            f"{attribute.name} {value!r} is not a component name: lower-case letters, digits and "
            "underscores, optionally 'vendor/' before and '.v2' behind"
        )


def _check_target(_: Any, attribute: Attribute[str], value: str) -> None:
    if not isinstance(value, str) or not _TARGET.fullmatch(value):
        raise ValueError(f"{attribute.name} {value!r} is not of the form 'package.module:attribute'")


def _check_optional_target(_: Any, attribute: Attribute[str], value: str) -> None:
    if value != "":
        _check_target(_, attribute, value)


def _check_kind(_: Any, attribute: Attribute[str], value: str) -> None:
    if value not in KINDS:
        raise ValueError(f"{attribute.name} {value!r} is not a kind; the kinds are {', '.join(KINDS)}")


def _frozen_mapping(value: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(value))


def canonical(name: str) -> str:
    """A bare name means version 1: `fastconformer.v1` and `fastconformer` are one component."""
    return name.removesuffix(".v1")


@frozen(kw_only=True)
class Part:
    """One section of a task's config, and how its size follows from the parts before it.

    `sizes` maps a keyword-only argument of the component to `"part.attribute"` of a part built
    earlier, e.g. `{"d_in": "preprocessor.d_out"}`. A component takes those it declares.
    """

    key: str
    kind: str = field(validator=_check_kind)
    required: bool = True
    sizes: Mapping[str, str] = field(factory=dict, converter=_frozen_mapping)
    help: str = ""


@frozen(kw_only=True)
class NemoSpec:
    """The NeMo `_target_` strings a component stands for, and the table that maps them.

    `mapping` is the `module:attribute` of a `sonant.nemo.ComponentMapping` (or, for a task,
    of a `sonant.nemo.TaskMapping`). It is imported only when a NeMo checkpoint is converted.
    """

    mapping: str = field(validator=_check_target)
    targets: tuple[str, ...] = ()


@frozen(kw_only=True)
class ComponentSpec:
    """One component that a config can name.

    `tiny` is a config small enough for a unit test. Where it names files (a tokenizer's model), `tiny_files` is the
    `module:attribute` of a function without arguments that returns their contents by name, `dict[str, bytes]`.
    """

    kind: str = field(validator=_check_kind)
    name: str = field(validator=_check_name, converter=canonical)
    target: str = field(validator=_check_target)
    config: str = field(validator=_check_target)
    doc: str
    tiny: Mapping[str, Any] = field(factory=dict, converter=_frozen_mapping)
    tiny_files: str = field(default="", validator=_check_optional_target)
    nemo: NemoSpec | None = None
    parts: tuple[Part, ...] = ()


@frozen(kw_only=True)
class KernelSpec:
    """One implementation of an operation.

    `requires` names what the machine must have: any of `sonant.kernels.REQUIREMENTS`. `rank` orders
    the automatic choice, highest first among those whose requirements hold.
    """

    op: str = field(validator=_check_name)
    backend: str = field(validator=_check_name)
    target: str = field(validator=_check_target)
    requires: tuple[str, ...] = ()
    rank: int = 0
    doc: str = ""
