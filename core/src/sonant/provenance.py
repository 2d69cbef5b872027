"""What a model folder says of its origin: the release that wrote it, which distribution each part came from, the licence.

It is the file's own word. It explains errors and is shown; nothing is ever installed, imported or decided by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from attrs import field, frozen

from sonant import __version__, plugins
from sonant.build import Blueprint
from sonant.errors import CheckpointError, ConfigError, UnknownName

# What pip allows, so that it can be shown.
_LABEL = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?) ([A-Za-z0-9.!+_-]+)")


@frozen
class Provenance:
    """Where a saved model came from; `distributions` are labels such as `acme-speech 0.2.0`, by section of the config."""

    version: str = ""
    distributions: Mapping[str, str] = field(factory=dict)
    license: str = ""

    @classmethod
    def of(cls, blueprint: Blueprint) -> Provenance:
        """That of a model about to be saved."""
        sections = {"task": blueprint.config.task, **blueprint.config.parts}
        labels = {key: section.component.plugin.label for key, section in sections.items()}
        return cls(__version__, labels, blueprint.license)

    @classmethod
    def read(cls, value: Any) -> Provenance:
        """From a config's section. It is a remark, so what is not of its form is left out and no error."""
        value = value if isinstance(value, dict) else {}
        labels = value.get("distributions")
        labels = labels if isinstance(labels, dict) else {}
        known = {str(k): v for k, v in labels.items() if isinstance(v, str) and _LABEL.fullmatch(v)}
        version, license = (value.get(key) for key in ("version", "license"))
        return cls(
            version if isinstance(version, str) else "",
            known,
            license.splitlines()[0] if isinstance(license, str) and license else "",
        )

    def to_dict(self) -> dict[str, Any]:
        """The section, as it is stored."""
        said = {"version": self.version, "distributions": dict(self.distributions), "license": self.license}
        return {key: value for key, value in said.items() if value}

    @property
    def absent(self) -> list[str]:
        """The labels of distributions that are not installed, or left out here."""
        present = _present()
        return sorted({label for label in self.distributions.values() if plugins.normalized(_parted(label)[0]) not in present})

    @property
    def changed(self) -> list[str]:
        """`acme-speech 0.2.0 (installed: 0.3.0)` for each distribution that is installed in another version."""
        return [f"{name} {was} (installed: {now})" for name, was, now in self._changes()]

    def _changes(self) -> list[tuple[str, str, str]]:
        """The name of each such distribution, its version then, and now."""
        present = _present()
        saved = sorted({_parted(label) for label in self.distributions.values()})
        versions = [(name, was, present.get(plugins.normalized(name), was)) for name, was in saved]
        return [(name, was, now) for name, was, now in versions if now != was]

    @contextmanager
    def explaining(self, source: str) -> Iterator[None]:
        """Errors of opening the model at `source` also say which distributions are missing or of another version."""
        try:
            yield
        except (UnknownName, ConfigError, CheckpointError) as error:
            why = self._explain(source)
            if not why:
                raise
            raise type(error)(f"{error}{'' if str(error).endswith('.') else '.'} {why}") from error

    def _explain(self, source: str) -> str:
        left_out = [label for label in self.absent if plugins.left_out(_parted(label)[0])]
        if left_out:
            return f"The model was saved with {', '.join(left_out)}, which SONANT_PLUGINS leaves out."
        if self.absent:
            pip = " ".join(label.replace(" ", "==") for label in self.absent)
            return (
                f"The model says that it was saved with {', '.join(self.absent)}, not installed here. If you trust that, "
                f"pip install {pip}. What it holds: sonant inspect {source}"
            )
        if self.changed:
            pip = " ".join(f"{name}=={was}" for name, was, _ in self._changes())
            return f"The model says that it was saved with {', '.join(self.changed)}. If you trust that, pip install {pip}"
        return ""


def _parted(label: str) -> tuple[str, str]:
    name, _, version = label.partition(" ")
    return name, version


def _present() -> dict[str, str]:
    """The version of each plugin's distribution that is in use, by normalized name."""
    return {plugins.normalized(plugin.distribution): plugin.version for plugin in plugins.installed()}
