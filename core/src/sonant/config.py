"""From a YAML file or a mapping to a checked, filled configuration; nothing is built and no torch imported.

A config holds names, never import paths. Every section is one component: `name` says which, the
rest fills that component's frozen attrs class. Unknown keys, wrong types and missing values are a
`ConfigError` that gives the path in the config, the line where there is one, and a suggestion.
"""

from __future__ import annotations

import copy
import difflib
import importlib
import logging
import re
import traceback
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import attrs
import yaml
from attrs import field, frozen

from sonant import nodes, registry
from sonant.errors import ConfigError, DuplicateName, PluginError, UnknownName
from sonant.layout import PROVENANCE
from sonant.registry import Registered

log = logging.getLogger(__name__)

_DEEP = 500  # brackets in a document, or columns in a line: with fewer of both it is not nested too deeply for a C stack

TRAINING_SECTIONS = ("init", "train_ds", "validation_ds", "test_ds", "loss", "optim", "trainer", "exp_manager", "seed")
"""Sections that describe a training run. They belong to the run, not to the model, and are not stored with weights.

So do those that the spec of a task names in `training`."""


@frozen
class Section:
    """One component's part of a filled config."""

    component: Registered
    config: Any

    @property
    def name(self) -> str:
        return self.component.spec.name

    def to_dict(self) -> dict[str, Any]:
        """`name` first, then every field, defaults included, as plain YAML-able values."""
        return {"name": self.name} | attrs.asdict(self.config, value_serializer=plain)


@frozen(kw_only=True)
class ModelConfig:
    """A filled and validated model config: the task and its parts, each with every default visible."""

    task: Section
    parts: Mapping[str, Section]
    training: Mapping[str, Any] = field(factory=dict)

    def to_dict(self, *, runtime: bool = True) -> dict[str, Any]:
        """The config as plain values. `runtime=False` leaves out what is chosen when a model is used."""
        kinds = {part.key: part.kind for part in self.task.component.spec.parts}
        parts = {k: s.to_dict() for k, s in self.parts.items() if runtime or kinds[k] != "search"}
        return {"task": self.task.to_dict()} | parts | (dict(self.training) if runtime else {})


def plain(_: Any, __: Any, value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def load_yaml(path: Path | str) -> dict[str, Any]:
    """Parse a YAML file safely into a mapping.

    Raises:
        ConfigError: the file is missing, not YAML (with line and column), or not a mapping.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the config {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not plain YAML: {error}") from error
    return parse_yaml(text, str(path))


def _safe_loader(text: str) -> Any:
    """The C parser where PyYAML has it: a checkpoint's config repeats its vocabulary thrice, which takes a second without.

    It overflows the stack, and so ends the process, on what is nested very deeply; the one in Python raises.
    """
    is_flat = text.count("[") + text.count("{") < _DEEP and max(map(len, text.splitlines()), default=0) < _DEEP
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader) if is_flat else yaml.SafeLoader


def parse_yaml(text: str, origin: str) -> dict[str, Any]:
    """Like `load_yaml`, for text that came from `origin`. Tags such as `!!python/object` are refused, and so are keys that are
    given twice and aliases that stand for too much (see `sonant.nodes`)."""
    try:
        node = yaml.compose(text, Loader=_safe_loader(text))
        if node is not None:
            nodes.check(node, origin)
        value = None if node is None else yaml.SafeLoader("").construct_document(node)
    except ConfigError:
        raise
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, LookupError, AttributeError) as error:
        # PyYAML's constructors of dates, numbers and such raise whatever Python's own do.
        raise ConfigError(f"{origin} is not plain YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{origin} holds a {type(value).__name__}, not a mapping of sections")
    return value


def resolve_user_file(path: Path | str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """A user's own config with interpolations resolved and `a.b=c` overrides applied.

    Raises:
        ConfigError: the file or an override cannot be read, or an interpolation has no target.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    data = load_yaml(path)
    for item in overrides:
        key, equals, _ = item.partition("=")
        if not equals or not all(key.split(".")):
            raise ConfigError(f"the override {item!r} is not of the form section.key=value, e.g. encoder.n_layers=12")
    try:
        merged = OmegaConf.merge(OmegaConf.create(data), OmegaConf.from_dotlist(list(overrides)))
        resolved = OmegaConf.to_container(merged, resolve=True)
    except (OmegaConfBaseException, yaml.YAMLError, TypeError) as error:  # TypeError: an override of an item in a list
        full_key = getattr(error, "full_key", None)
        where = f"{path}:{find_line(path, full_key) or ''}: {full_key}" if full_key else path
        raise ConfigError(f"{where}: {str(error).splitlines()[0]}") from error
    assert isinstance(resolved, dict)
    return {str(k): v for k, v in resolved.items()}


def merged(data: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Values over a config's, section by section."""
    result = dict(data)
    for key, value in over.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def find_line(path: Path | str, dotted: str) -> int | None:
    """The line, from 1, on which the key `dotted` (or its nearest parent) stands in a YAML file."""
    try:
        node = yaml.compose(Path(path).read_text("utf-8"), Loader=yaml.SafeLoader)
    except (OSError, yaml.YAMLError):
        return None
    line = None
    for key in dotted.split("."):
        pairs = getattr(node, "value", None)
        match = next((p for p in pairs if isinstance(p, tuple) and p[0].value == key), None) if isinstance(pairs, list) else None
        if match is None:
            break
        line, node = match[0].start_mark.line + 1, match[1]
    return line


@contextmanager
def located(path: Path | str) -> Iterator[None]:
    """Errors about a key of the config file `path` also name the file and the line."""
    try:
        yield
    except (ConfigError, UnknownName, DuplicateName) as error:
        line = find_line(path, str(error).split(":", 1)[0].split(" ", 1)[0])
        raise type(error)(f"{path}{f':{line}' if line else ''}: {error}") from error


def load_target(target: str, label: str) -> Any:
    """Import `module:attribute` named by a spec.

    Raises:
        PluginError: it does not import, or the attribute is missing; `label` says whose it is.
    """
    module, _, attribute = target.partition(":")
    try:
        home = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        reason = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        raise PluginError(f"{label}: cannot import {target!r}: {reason}{_raised_in(error)}") from error
    try:
        return getattr(home, attribute)
    except AttributeError as error:
        raise PluginError(f"{label}: {module!r} has no attribute {attribute!r}") from error


def _raised_in(error: BaseException) -> str:
    """` (/…/model.py:3)`, where the module that was imported, or one that it imports, is at fault."""
    frames = [f for f in traceback.extract_tb(error.__traceback__)[1:] if "importlib" not in f.filename]
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""


def label(component: Registered) -> str:
    """`encoder 'fastconformer' (sonant-encoders 0.1.0)`, for error texts."""
    return f"{component.spec.kind} {component.spec.name!r} ({component.plugin.label})"


def config_class(component: Registered) -> type:
    """The frozen attrs class of a component's config.

    Raises:
        PluginError: it does not import or is not an attrs class.
    """
    cls = load_target(component.spec.config, label(component))
    if not (isinstance(cls, type) and attrs.has(cls)):
        raise PluginError(f"{label(component)}: config {component.spec.config!r} is not an attrs class")
    untyped = [a.name for a in attrs.fields(cls) if a.type is None]
    if untyped:
        names = ", ".join(untyped)
        raise PluginError(f"{label(component)}: {names} in its config: a field needs a type, as `width: int`")
    return cls


def fill_section(kind: str, section: Any, path: str) -> Section:
    """Look up the component that `section` names and fill its config.

    `section` is a mapping with `name`, or just the name. `path` is where it stands, for errors.

    Raises:
        UnknownName, DuplicateName: see `Registry.get`.
        ConfigError: an unknown key, wrong type or missing value.
    """
    if isinstance(section, str):
        section = {"name": section}
    if not isinstance(section, Mapping):
        raise ConfigError(f"{path}: expected a component, e.g. {path}: {{name: …}}, not {section!r}")
    values = dict(section)
    name = values.pop("name", None)
    if not isinstance(name, str):
        installed = ", ".join(registry.current().names(kind)) or "none"
        raise ConfigError(f"{path}.name is missing: it says which {kind} to use (installed: {installed})")
    try:
        component = registry.current().get(kind, name)
    except (UnknownName, DuplicateName) as error:
        raise type(error)(f"{path}.name: {error}") from error
    return Section(component, fill(config_class(component), values, path))


def fill(cls: type, values: Mapping[str, Any], path: str) -> Any:
    """An instance of the attrs class `cls` from `values`, with defaults filled and types checked.

    Interpolations are refused: those of a user's own file are resolved by now, and no other may have any.

    Raises:
        ConfigError: names the key's full path, what is allowed, and the nearest known key.
    """
    return _filled(cls, values, path) if values else copy.deepcopy(_defaults(cls, path))


@lru_cache(maxsize=256)
def _defaults(cls: type, path: str) -> Any:
    """Filled once: it takes milliseconds, and every batch of a recognizer asks for its search by name alone."""
    return _filled(cls, {}, path)


def _filled(cls: type, values: Mapping[str, Any], path: str) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for key in values:
        if not isinstance(key, str):
            raise ConfigError(f"{path}: the key {key!r} is not a string")
    _refuse_interpolation(values, path)
    _refuse_truth_as_text(cls, values, path)
    _check_items(cls, values, path)
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), dict(values)))
    except OmegaConfBaseException as error:
        full_key = error.full_key or next((k for k in values if not _merges(cls, k, values[k])), None)
        where = f"{path}.{full_key}" if full_key else path
        reason = str(error).splitlines()[0]
        owner = error.object_type
        nearest = owner if owner is not None and attrs.has(owner) else cls
        raise ConfigError(f"{where}: {_reword(reason, nearest, where)}") from error
    except (ValueError, TypeError) as error:  # a validator of the class itself
        raise ConfigError(f"{path}: {error}") from error
    except Exception as error:  # a fault of the class
        reason = f"{type(error).__name__}: {error}{_raised_in(error)}"
        raise ConfigError(f"{path}: {cls.__module__}.{cls.__qualname__} cannot be filled: {reason}") from error


def _refuse_truth_as_text(cls: type, values: Mapping[str, Any], path: str) -> None:
    """YAML reads `on`, `no` and their like as truth values, which as text would be `True` and `False`."""
    types = {a.name: str(a.type) for a in attrs.fields(cls)}
    for key, value in values.items():
        items = value if isinstance(value, (list, tuple)) else [value]
        if re.fullmatch(r"(<class 'str'>|str|(list|tuple)\[str(, \.\.\.)?\])( \| None)?", types.get(key, "")):
            for position, item in enumerate(items):
                if isinstance(item, bool):
                    where = f"{path}.{key}" + (f"[{position}]" if items is value else "")
                    raise ConfigError(f"{where}: expected text, not {item}: YAML reads on, off, yes and no as such; quote them")


def _check_items(cls: type, values: Mapping[str, Any], path: str) -> None:
    """Each section of a list of sections by itself: an error of the whole would not say in which it lies."""
    for key, kind in typing.get_type_hints(cls).items():
        items = values.get(key)
        item_class: type | None = next(iter(typing.get_args(kind)), None)
        if typing.get_origin(kind) is not list or item_class is None or not attrs.has(item_class):
            continue
        if isinstance(items, Mapping):
            raise ConfigError(f"{path}.{key}: expected a list here, not a mapping")
        for position, item in enumerate(items if isinstance(items, (list, tuple)) else ()):
            where = f"{path}.{key}[{position}]"
            if isinstance(item, Mapping):
                fill(item_class, item, where)
            elif not isinstance(item, item_class):
                raise ConfigError(f"{where}: expected a mapping here, not {item!r}")


def _merges(cls: type, key: str, value: Any) -> bool:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        OmegaConf.merge(OmegaConf.structured(cls), {key: value})
    except OmegaConfBaseException:
        return False
    return True


def _refuse_interpolation(value: Any, path: str) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            _refuse_interpolation(item, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for item in value:
            _refuse_interpolation(item, path)
    elif isinstance(value, str) and "${" in value:
        raise ConfigError(f"{path}: the interpolation {value!r} is refused: only a config file of your own may have any")


def _reword(reason: str, cls: type, where: str) -> str:
    if reason.startswith("Key ") and " not in " in reason:
        known = [a.name for a in attrs.fields(cls)]
        close = difflib.get_close_matches(where.rsplit(".", 1)[-1], known, n=1)
        hint = f"Did you mean {close[0]!r}? " if close else ""
        return f"unknown key. {hint}Known keys: {', '.join(known) or 'none'}"
    if "missing mandatory value" in reason:
        return "a value is required here"
    if reason.startswith("Invalid value assigned: AnyNode is not a"):
        return f"expected a {'list' if 'ListConfig' in reason else 'mapping'} here, not a single value"
    return reason[0].lower() + reason[1:]


def fill_model(data: Mapping[str, Any]) -> ModelConfig:
    """Fill and validate a whole model config.

    Raises:
        ConfigError: a section is missing, unknown, or does not fit its component.
        UnknownName, DuplicateName: a name cannot be resolved.
    """
    if "task" not in data:
        tasks = ", ".join(registry.current().names("task")) or "none"
        raise ConfigError(f"task is missing: it says what the model does (installed: {tasks})")
    task = fill_section("task", data["task"], "task")
    declared = {part.key: part for part in task.component.spec.parts}
    run = dict.fromkeys((*TRAINING_SECTIONS, *(part.key for part in task.component.spec.training)))
    known = [*declared, *run]
    for key in data:
        if key not in ("task", PROVENANCE, *known):
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"Did you mean {close[0]!r}? " if close else ""
            raise ConfigError(f"{key}: unknown section. {hint}Sections of the task {task.name!r}: {', '.join(known)}")
    parts = {}
    for key, part in declared.items():
        if data.get(key) is not None:
            parts[key] = fill_section(part.kind, data[key], key)
        elif part.required:
            raise ConfigError(f"{key} is missing: the task {task.name!r} needs a section {key}: {{name: …}}")
    training = {k: data[k] for k in run if k in data}
    return ModelConfig(task=task, parts=parts, training=training)


def warn_of_deprecated(config: ModelConfig) -> None:
    """Log a warning for each deprecated component of a user's own config. For saved models there is none: they open as before."""
    for path, section in {"task": config.task, **config.parts}.items():
        if section.component.spec.deprecated:
            log.warning("%s: %s is deprecated: %s", path, label(section.component), section.component.spec.deprecated)
