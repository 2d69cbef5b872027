"""Assembling a model: every part by name, in the task's order, each told the sizes of those before it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from sonant import config as configs
from sonant import protocols
from sonant.config import ModelConfig, Section
from sonant.errors import ConfigError
from sonant.files import Files

if TYPE_CHECKING:
    from torch import nn


@frozen
class Blueprint:
    """What a model was built from: all that is needed, with its weights, to build it again.

    `notes` says where it came from and what was left behind on the way, for `sonant convert`. `license` is that of the weights
    it was opened with, where it is known, and goes along when the model is saved.
    """

    config: ModelConfig
    files: Mapping[str, bytes] = field(factory=dict, repr=False)
    source: str = ""
    notes: tuple[str, ...] = ()
    license: str = ""


def build(config: Mapping[str, Any] | str | Path | ModelConfig, **sections: Any) -> nn.Module:
    """Build a model with fresh weights from a config.

    Args:
        config: a YAML file, a mapping of sections, or a filled config.
        sections: values merged over the config's, e.g. `encoder={"n_layers": 4}`.

    Returns:
        The task model, a `torch.nn.Module`, in training mode, with its `blueprint`.

    Raises:
        ConfigError: the config does not hold together; nothing was built.
        UnknownName, DuplicateName: a component's name cannot be resolved.
    """
    if isinstance(config, ModelConfig):
        data, files = config.to_dict(), Files.beside(Path.cwd())
    elif isinstance(config, (str, Path)):
        data, files = configs.resolve_user_file(config), Files.beside(Path(config).resolve().parent)
    else:
        data, files = dict(config), Files.beside(Path.cwd())
    for key, value in sections.items():
        if isinstance(value, Mapping) and isinstance(data.get(key), str):  # a section that is a bare name
            data[key] = {"name": data[key]}
    with configs.located(config) if isinstance(config, (str, Path)) else nullcontext():
        filled = configs.fill_model(configs.merged(data, sections))
    configs.warn_of_deprecated(filled)
    return assemble(filled, files)


def assemble(config: ModelConfig, files: Files, *, source: str = "", notes: tuple[str, ...] = ()) -> nn.Module:
    """Build a filled config's parts and hand them to the task's `from_parts`.

    Raises:
        ConfigError: a component refuses its config or the size it is given.
    """
    built: dict[str, Any] = {}
    for part in config.task.component.spec.parts:
        section = config.parts.get(part.key)
        if section is not None:
            sizes = {name: _size(built, origin, part.key) for name, origin in part.sizes.items()}
            built[part.key] = instantiate(section, part.key, sizes | {"files": files})
    task = configs.load_target(config.task.component.spec.target, configs.label(config.task.component))
    with _blame(config.task, "task"):
        model: nn.Module = task.from_parts(config.task.config, built)
    model.blueprint = Blueprint(config, dict(files.read_so_far), source, notes)  # type: ignore[assignment]
    return model


def training_parts(model: nn.Module, sections: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What only the training of a model needs, its losses, built by the keys of its task's spec; `loss` takes them by these.

    Args:
        model: a `Trainable` that was built or loaded.
        sections: of the run's config; None takes those that the model was built with.

    Raises:
        ConfigError: the task cannot be trained, or a section is missing or does not fit.
        UnknownName, DuplicateName: a component's name cannot be resolved.
    """
    blueprint: Blueprint = model.blueprint  # type: ignore[assignment]
    task, found = blueprint.config.task, blueprint.config.training if sections is None else sections
    if not isinstance(model, protocols.Trainable):
        missing = [name for name in ("prepare", "collate", "loss", "score") if not hasattr(model, name)]
        raise ConfigError(f"task: {task.name!r} cannot be trained: its model has no {' and no '.join(missing)}")
    built: dict[str, Any] = {}
    for part in task.component.spec.training:
        if found.get(part.key) is None:
            if part.required:
                raise ConfigError(f"{part.key} is missing: to train, the task {task.name!r} needs {part.key}: {{name: …}}")
            continue
        section = configs.fill_section(part.kind, found[part.key], part.key)
        owned = {key: getattr(model, key, None) for key in blueprint.config.parts}
        sizes = {name: _size(owned | built, origin, part.key) for name, origin in part.sizes.items()}
        built[part.key] = instantiate(section, part.key, sizes)
    return built


def _size(built: Mapping[str, Any], origin: str, path: str) -> Any:
    key, _, attribute = origin.partition(".")
    if key not in built:
        return None
    if not attribute:
        return built[key]
    try:
        return getattr(built[key], attribute)
    except AttributeError:
        raise ConfigError(f"{path} needs {origin}, and {type(built[key]).__name__} has no attribute {attribute!r}") from None


def instantiate(section: Section, path: str, sizes: Mapping[str, Any]) -> Any:
    """Call a component with its config and those of `sizes` that it declares as keyword-only arguments.

    Raises:
        ConfigError: it refuses the config, or needs a size nobody gives.
    """
    label = configs.label(section.component)
    target = configs.load_target(section.component.spec.target, label)
    wanted = _sizes_of(target, path, label)
    given = {name: sizes[name] for name in wanted if sizes.get(name) is not None}
    for name, parameter in wanted.items():
        if name not in given and parameter.default is inspect.Parameter.empty:
            offered = ", ".join(sorted(sizes)) or "nothing"
            raise ConfigError(f"{path}: {label} needs {name!r}, which no part before it provides; it is offered {offered}")
    with _blame(section, path):
        built = target(section.config, **given)
    absent = [name for name in _attributes(section.component.spec.kind) if not hasattr(built, name)]
    if absent:
        kind = section.component.spec.kind
        raise ConfigError(f"{path}: {label} has no attribute {' and no '.join(map(repr, absent))}, which every {kind} must have")
    return built


def _sizes_of(target: Any, path: str, label: str) -> dict[str, inspect.Parameter]:
    """The keyword-only parameters of a component. One that it takes by position, behind the config, would be given nothing."""
    parameters = list(inspect.signature(target).parameters.values())
    for parameter in parameters[1:]:
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.default is parameter.empty:
            raise ConfigError(f"{path}: {label} takes {parameter.name!r} by position; write `(config, *, {parameter.name})`")
    return {parameter.name: parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}


def _attributes(kind: str) -> list[str]:
    """What the protocol of a kind says that its components have."""
    return [name for base in protocols.BY_KIND[kind].__mro__ for name in inspect.get_annotations(base)]


class _blame:
    """Turns a component's own ValueError into a ConfigError that names the section and its distribution."""

    def __init__(self, section: Section, path: str) -> None:
        self.section, self.path = section, path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: Any) -> None:
        from sonant.errors import SonantError

        if isinstance(error, (ValueError, TypeError, RuntimeError)) and not isinstance(error, SonantError):
            raise ConfigError(f"{self.path}: {configs.label(self.section.component)}: {error}") from error
