"""What every component's spec and config promise; nothing is built."""

from __future__ import annotations

from typing import Any

import attrs
import yaml
from attrs.exceptions import FrozenError

from sonant import config
from sonant.config import Section
from sonant.errors import ConfigError
from sonant.testing.check import require
from sonant.testing.subject import Subject


def documented(subject: Subject) -> None:
    """`doc` says in one line what the component is."""
    doc = subject.spec.doc
    require(doc.strip(), "its spec has an empty doc: say in one line what it is; `sonant components` prints it")
    require("\n" not in doc, "its spec's doc has several lines; `sonant components` has room for one")


def config_is_frozen(subject: Subject) -> None:
    """The config is a frozen attrs class."""
    cls: Any = config.config_class(subject.component)
    try:
        cls.__new__(cls).name = None  # a frozen class refuses every name
    except FrozenError:
        return
    except AttributeError:
        pass  # slots without that name, and not frozen
    raise AssertionError(f"{subject.spec.config} is not frozen: a config must not change once it is filled; use @attrs.frozen")


def fields_have_help(subject: Subject) -> None:
    """Every field says what it means."""
    mute = [f.name for f in attrs.fields(config.config_class(subject.component)) if not f.metadata.get("help")]
    require(
        not mute,
        f"no help for {', '.join(mute)}: add metadata={{'help': '…'}} to the field; `sonant describe` prints it",
    )


def tiny_config_fills(subject: Subject) -> None:
    """`tiny` fits the config class."""
    if not subject.spec.tiny:
        _ = subject.section  # skips, and says why, where values are required
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
    fields = [f.name for f in attrs.fields(config.config_class(subject.component))]
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


CHECKS = (documented, config_is_frozen, fields_have_help, tiny_config_fills, config_round_trip, unknown_key_fails)
