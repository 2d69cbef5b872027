"""What a plugin declares: strings only, so that describing a component imports nothing.

A spec says where a component's code is (`target`), what its config looks like (`config`),
and a config small enough for a unit test (`tiny`). Torch is imported when `target` is.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, Literal, get_args

from attrs import Attribute, field, frozen

from sonant.frozendict import FrozenDict

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
    return FrozenDict(value)


def no_kind(kind: str) -> str:
    """What to say of a kind that is none."""
    close = difflib.get_close_matches(kind, KINDS, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"no kind named {kind!r}.{hint} The kinds are {', '.join(KINDS)}"


def canonical(name: str) -> str:
    """A bare name means version 1: `fastconformer.v1` and `fastconformer` are one component."""
    return name.removesuffix(".v1")


@frozen(kw_only=True)
class Part:
    """One section of a task's config, and how its size follows from the parts before it."""

    key: str = field(metadata={"help": "the section's name in the config"})
    kind: str = field(validator=_check_kind, metadata={"help": "which kind of component the section names"})
    required: bool = field(default=True, metadata={"help": "whether a config without the section is an error"})
    sizes: Mapping[str, str] = field(
        factory=dict,
        converter=_frozen_mapping,
        metadata={
            "help": "keyword-only arguments of the component, each with the `part.attribute` of a part before it that it gets, "
            'as `{"d_in": "preprocessor.d_out"}`, or with a `part` itself; a component takes those it declares'
        },
    )
    help: str = field(default="", metadata={"help": "what the section is for, shown by `sonant describe task NAME`"})


@frozen(kw_only=True)
class NemoSpec:
    """The NeMo `_target_` strings a component stands for, and the table that maps them."""

    mapping: str = field(
        validator=_check_target,
        metadata={
            "help": "`module:attribute` of a `sonant.nemo.ComponentMapping` (of a task: `sonant.nemo.TaskMapping`); imported "
            "only when a NeMo checkpoint is opened or written"
        },
    )
    targets: tuple[str, ...] = field(
        default=(),
        metadata={"help": "the `_target_`s (of a task: the `target`s; of a tokenizer: the `type`s) that it stands for"},
    )
    refused: Mapping[str, str] = field(
        factory=dict,
        converter=_frozen_mapping,
        metadata={
            "help": "classes of its kind that neither it nor its plugin's others stand for, with the reason, for the error"
        },
    )


@frozen(kw_only=True)
class HuggingFaceSpec:
    """The names in the JSON files of a Hugging Face model that a component stands for, and the table that maps them."""

    mapping: str = field(
        validator=_check_target,
        metadata={
            "help": "`module:attribute` of a `sonant.mapping.ComponentMapping` (of a task: `sonant.mapping.TaskMapping`); "
            "imported only when such a model is opened or written"
        },
    )
    names: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "the `architectures` (of a task), `model_type`s (of an encoder), `feature_extractor_type`s (of a "
            "preprocessor) that it stands for"
        },
    )


@frozen(kw_only=True)
class ComponentSpec:
    """One component that a config can name. All values are strings and plain data, so that describing it imports nothing."""

    kind: str = field(validator=_check_kind, metadata={"help": "one of `sonant.spec.KINDS`"})
    name: str = field(
        validator=_check_name,
        converter=canonical,
        metadata={
            "help": "what configs call it: lower-case letters, digits and underscores, yours before a slash, as `acme/gru`; "
            "`.v2` behind, where saved weights would compute something else than before"
        },
    )
    target: str = field(
        validator=_check_target,
        metadata={
            "help": "`module:attribute` of what builds it, called as `target(config, **sizes)`; imported only when it is built"
        },
    )
    config: str = field(
        validator=_check_target,
        metadata={"help": "`module:attribute` of the frozen attrs class of its fields, in a module without torch"},
    )
    doc: str = field(metadata={"help": "one line, shown by `sonant components`"})
    tiny: Mapping[str, Any] = field(
        factory=dict,
        converter=_frozen_mapping,
        metadata={"help": "fields of a config small enough for a unit test, from which the contract suite builds it"},
    )
    tiny_files: str = field(
        default="",
        validator=_check_optional_target,
        metadata={
            "help": "where `tiny` names files (a tokenizer's model): `module:attribute` of a function without arguments that "
            "returns their contents by name, `dict[str, bytes]`"
        },
    )
    nemo: NemoSpec | None = field(default=None, metadata={"help": "what it stands for in NeMo's checkpoints, if anything"})
    huggingface: HuggingFaceSpec | None = field(
        default=None, metadata={"help": "what it stands for in the models of Hugging Face's transformers, if anything"}
    )
    parts: tuple[Part, ...] = field(default=(), metadata={"help": "of a task: its sections, in the order they are built"})
    training: tuple[Part, ...] = field(
        default=(),
        metadata={
            "help": "of a task that can be trained (`sonant.protocols.Trainable`): the sections that only training needs, as "
            "losses; they are built beside the model, never stored with it, and handed to its `loss` by their keys"
        },
    )
    tiny_row: Mapping[str, Any] = field(
        factory=dict,
        converter=_frozen_mapping,
        metadata={
            "help": "of a task that can be trained: what a manifest says of a recording beside its `text`, for the contract "
            'suite, as {"label": "music"}'
        },
    )
    deprecated: str = field(
        default="",
        metadata={
            "help": 'what to name instead, as "use acme/gru.v2": configs that name the component are warned, saved models open '
            "as before"
        },
    )

    def stands_for(self, form: Literal["nemo", "huggingface"]) -> tuple[str, ...]:
        """The names of a foreign form that it stands for."""
        if form == "nemo":
            return self.nemo.targets if self.nemo is not None else ()
        return self.huggingface.names if self.huggingface is not None else ()


@frozen(kw_only=True)
class KernelSpec:
    """One implementation of an operation; `sonant.kernels.get` chooses among those that run on the machine."""

    op: str = field(validator=_check_name, metadata={"help": "the operation, as `rel_pos_attention`"})
    backend: str = field(validator=_check_name, metadata={"help": "which implementation of it, as `triton`"})
    target: str = field(
        validator=_check_target, metadata={"help": "`module:attribute` of the function; imported only when it is chosen"}
    )
    requires: tuple[str, ...] = field(
        default=(), metadata={"help": "what the machine must have: any of `sonant.kernels.REQUIREMENTS`"}
    )
    rank: int = field(
        default=0, metadata={"help": "the order of the automatic choice: the highest among those whose requirements hold"}
    )
    refuses: str = field(
        default="",
        validator=_check_optional_target,
        metadata={
            "help": "`module:attribute` of a function that is asked before each call, with its arguments: why this one does not "
            "take them, or None. The automatic choice then takes the next; asked for by name, it is an error"
        },
    )
    doc: str = field(default="", metadata={"help": "one line"})
