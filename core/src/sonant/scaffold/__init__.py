"""The package that `sonant new-plugin` writes.

Templates are the files ending in `.tmpl` beside this one, with `$name` in the place of what differs. `common/` holds what
every package has. Each other folder is named for a kind and holds one component of it: `config.py` and `model.py`, `spec.py`
(its part of `plugin.py`) and `example.yaml` (its part of the README).
"""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Final

from attrs import frozen

import sonant
from sonant import hooks
from sonant.plugins import normalized
from sonant.spec import KINDS, no_kind

PARTNERS: Final[dict[str, tuple[str, ...]]] = {
    "decoder": ("search",),
    "search": ("decoder",),
    "task": ("preprocessor", "encoder"),
}
"""What a kind cannot be tried without."""

_DISTRIBUTION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")  # as packaging standards have it
_VENDOR = re.compile(r"[a-z][a-z0-9_-]*")
_INIT = '"""The {kind}: `config.py` holds its fields, `model.py` what it computes."""\n'


@frozen(kw_only=True)
class Package:
    """A package to be written: its names, and the kinds of component in it."""

    distribution: str
    module: str
    vendor: str
    kinds: tuple[str, ...]


def plan(distribution: str, kinds: Sequence[str] = ("encoder",), vendor: str | None = None) -> Package:
    """Names that follow from the distribution's, and `kinds` with their partners.

    Raises:
        ValueError: a name cannot be one or is somebody's already, or a kind is unknown; the text says what is allowed.
    """
    if not _DISTRIBUTION.fullmatch(distribution):
        raise ValueError(
            f"{distribution!r} cannot be the name of a distribution: letters, digits and - _ . between them, e.g. acme-speech"
        )
    module = normalized(distribution).replace("-", "_")
    taken = _taken(normalized(distribution), module)
    if taken:
        raise ValueError(f"{distribution!r} {taken}; choose another name, as my-{normalized(distribution)}")
    vendor = module.partition("_")[0] if vendor is None else vendor
    if not _VENDOR.fullmatch(vendor):
        raise ValueError(f"{vendor!r} cannot stand before component names: a lower-case letter, then those, digits, - and _")
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(no_kind(kind))
    wanted = {*kinds, *(partner for kind in kinds for partner in PARTNERS.get(kind, ()))}
    return Package(distribution=distribution, module=module, vendor=vendor, kinds=tuple(kind for kind in KINDS if kind in wanted))


def _taken(name: str, module: str) -> str:
    """Why the distribution `name`, imported as `module`, cannot be: it is no name, or would replace or hide somebody else's."""
    if not module.isidentifier():
        return f"would be imported as {module!r}, which must not begin with a digit"
    if keyword.iskeyword(module) or module in sys.stdlib_module_names:
        return f"would be imported as {module!r}, which Python has already"
    if name == "sonant" or name.startswith("sonant-"):
        return "would be taken for a part of Sonant itself"
    try:
        return f"is installed already ({version(name)})"
    except PackageNotFoundError:
        pass
    return f"would be imported as {module!r}, which is installed already" if find_spec(module) else ""


def render(package: Package) -> dict[str, str]:
    """Every file of the package: its text by its path."""
    values = _values(package)
    folder = f"src/{package.module}"
    rendered = {
        path.replace("dot_", ".").replace("src/package", folder): _fill(template, values)
        for path, template in _templates(_home().joinpath("common"))
    }
    for kind in package.kinds:
        rendered[f"{folder}/{kind}/__init__.py"] = _INIT.format(kind=kind.replace("_", " "))
        for name in ("config.py", "model.py"):
            rendered[f"{folder}/{kind}/{name}"] = _part(kind, name, values)
    return dict(sorted(rendered.items()))


def write(package: Package, folder: Path) -> list[Path]:
    """Write the package into `folder`, which is made; returns the paths of its files.

    Raises:
        FileExistsError: something is in there already, other than a `.git`.
    """
    if folder.exists() and (not folder.is_dir() or any(entry.name != ".git" for entry in folder.iterdir())):
        raise FileExistsError(
            f"{folder} is there already and not empty: name another folder with --into, and copy from there what you want"
        )
    paths = []
    for name, text in render(package).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        paths.append(path)
    return paths


def components(package: Package) -> list[tuple[str, str]]:
    """The kind and the name of every component in the package."""
    values = _values(package)
    return [(kind, re.findall(r'name="(.+)"', _part(kind, "spec.py", values))[0]) for kind in package.kinds]


def _values(package: Package) -> dict[str, str]:
    """What stands in the place of each `$name`."""
    values = {"distribution": package.distribution, "package": package.module, "vendor": package.vendor}
    specs = "\n".join(_part(kind, "spec.py", values) for kind in package.kinds)
    examples = "\n".join(f"```yaml\n{_part(kind, 'example.yaml', values)}```\n" for kind in package.kinds)
    return values | {
        "bound": hooks.requirement(sonant.__version__),
        "entry": normalized(package.distribution),
        "kinds": ", ".join(kind.replace("_", " ") for kind in package.kinds),
        "imports": "ComponentSpec, Part, hookimpl" if "Part(" in specs else "ComponentSpec, hookimpl",
        "specs": specs.rstrip("\n"),
        "examples": examples,
    }


def _home() -> Traversable:
    return files("sonant").joinpath("scaffold")


def _templates(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, Traversable]]:
    """The templates below `folder` by their path, without `.tmpl`."""
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _templates(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".tmpl"):
            yield prefix + entry.name.removesuffix(".tmpl"), entry


def _part(kind: str, name: str, values: dict[str, str]) -> str:
    return _fill(_home().joinpath(kind, f"{name}.tmpl"), values)


def _fill(template: Traversable, values: dict[str, str]) -> str:
    return Template(template.read_text("utf-8")).substitute(values)
