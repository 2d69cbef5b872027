"""What every component's spec and config promise; nothing is built."""

from __future__ import annotations

import inspect
from typing import Any, Final

import attrs
import yaml
from attrs.exceptions import FrozenError

from sonant import config
from sonant.config import Section
from sonant.errors import ConfigError
from sonant.testing.check import RAISED, explain, require
from sonant.testing.subject import Subject

_NOT_ITS_OWN: Final = ("builtins", "torch", "typing", "abc")


def loads(subject: Subject) -> None:
    """Everything that the spec names can be imported, and its config is an attrs class."""
    spec = subject.spec
    named = {"target": spec.target, "config": spec.config, "tiny_files": spec.tiny_files}
    named |= {"nemo mapping": spec.nemo.mapping} if spec.nemo else {}
    named |= {"huggingface mapping": spec.huggingface.mapping} if spec.huggingface else {}
    faults = [fault for what, name in named.items() if name and (fault := _load_fault(what, name))]
    require(not faults, "; ".join(faults))
    config.config_class(subject.component)


def _load_fault(what: str, name: str) -> str:
    try:
        config.load_target(name, f"its {what}")
    except RAISED as error:
        return explain(error)
    return ""


def documented(subject: Subject) -> None:
    """`doc` says in one line what the component is."""
    doc = subject.spec.doc
    require(doc.strip(), "its spec has an empty doc: say in one line what it is; `sonant components` prints it")
    require("\n" not in doc, "its spec's doc has several lines; `sonant components` has room for one")


def target_documented(subject: Subject) -> None:
    """The code behind it has a docstring of its own."""
    require(
        docstrings(subject.target),
        f"{subject.spec.target} has no docstring: say what it computes, from which shapes to which, and where it is from",
    )


def docstrings(target: Any, *methods: str) -> list[str]:
    """Those of a function or class, and of its methods of these names; not what it has from PyTorch or Python."""
    if not inspect.isclass(target):
        return [text] if (text := inspect.getdoc(target)) else []
    homes = [home for home in inspect.getmro(target) if home.__module__.partition(".")[0] not in _NOT_ITS_OWN]
    documented = [*homes, *(vars(home)[name] for home in homes for name in methods if name in vars(home))]
    return [part.__doc__ for part in documented if part.__doc__]


def config_is_frozen(subject: Subject) -> None:
    """The config is a frozen attrs class."""
    cls: Any = subject.config_class
    try:
        cls.__new__(cls).name = None  # a frozen class refuses every name
    except FrozenError:
        return
    except AttributeError:
        pass  # slots without that name, and not frozen
    raise AssertionError(f"{subject.spec.config} is not frozen: a config must not change once it is filled; use @attrs.frozen")


def fields_have_help(subject: Subject) -> None:
    """Every field says what it means."""
    mute = [f.name for f in attrs.fields(subject.config_class) if not f.metadata.get("help")]
    require(
        not mute,
        f"no help for {', '.join(mute)}: add metadata={{'help': '…'}} to the field; `sonant describe` prints it",
    )


def tiny_config_fills(subject: Subject) -> None:
    """`tiny` fits the config class."""
    missing = [f.name for f in attrs.fields(subject.config_class) if f.default is attrs.NOTHING and f.init]
    example = "{" + ", ".join(f'"{name}": …' for name in missing) + "}"
    require(
        subject.spec.tiny or not missing,
        f"its spec has no tiny config, and {', '.join(missing)} must be given: write tiny={example} into the spec",
    )
    subject.fill(subject.spec.tiny)


def config_round_trip(subject: Subject) -> None:
    """The filled config, written as YAML beside the weights and read again, is the same."""
    section = subject.section
    values = section.to_dict()
    try:
        text = yaml.safe_dump(values)
    except yaml.YAMLError as error:
        raise AssertionError(f"the filled config cannot be written as YAML: {error}") from error
    read = yaml.safe_load(text)
    read.pop("name")
    again = subject.fill(read)
    require(
        again == section.config,
        f"the filled config, written and read again, is another: {section.config} became {again}",
    )
    require(Section(subject.component, again).to_dict() == values, "the filled config, written a second time, gives another text")


def unknown_key_fails(subject: Subject) -> None:
    """A misspelt key is refused, and the right one suggested."""
    fields = [f.name for f in attrs.fields(subject.config_class)]
    key = f"{fields[0]}_" if fields else "misspelt"
    while key in fields:
        key += "_"
    _ = subject.section
    try:
        subject.fill(dict(subject.spec.tiny) | {key: None})
    except ConfigError as error:
        require(key in str(error), f"the error for the unknown key {key!r} does not name it: {error}")
        require(not fields or "Did you mean" in str(error), f"the error for the unknown key {key!r} suggests nothing: {error}")
    else:
        raise AssertionError(f"the unknown key {key!r} is accepted: a misspelt key would be ignored silently")


CHECKS = (
    loads,
    documented,
    target_documented,
    config_is_frozen,
    fields_have_help,
    tiny_config_fills,
    config_round_trip,
    unknown_key_fails,
)
