"""The section `init` of a run: where its weights come from, and what of them is trained."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import attrs
from attrs import evolve, field, frozen

from sonant import config as configs
from sonant.errors import ConfigError

_FROM = "from"  # a word of Python, so no field can be called so


def _help(text: str) -> dict[str, str]:
    return {"help": text}


@frozen(kw_only=True)
class LoraConfig:
    """Low-rank adaptation of linear layers (Hu et al., 2021): the layer stays as it is, and a product of two thin matrices is
    learned beside it, which is added to its weight when the model is saved."""

    rank: int = field(default=8, metadata=_help("columns of the thin matrices"))
    alpha: float = field(default=16.0, metadata=_help("what is learned counts alpha / rank times"))
    dropout: float = field(default=0.0, metadata=_help("on the input of the thin matrices, in training"))
    modules: list[str] = field(
        factory=lambda: ["encoder"], metadata=_help("paths of linear layers, or of what holds them; all below are adapted")
    )

    def __attrs_post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise ValueError("rank must be at least 1, alpha more than 0, and dropout in [0, 1)")
        if not self.modules:
            raise ValueError("modules must name at least one linear layer, or what holds some")


@frozen(kw_only=True)
class InitConfig:
    """Where weights come from and which are trained. Without `from` they are fresh.

    Paths are those of modules and parameters, as `encoder.layers.0.norm_out`; what lies below is meant too. `*` stands for
    anything, and `0-11` between dots for these numbers.
    """

    source: str | None = field(default=None, metadata=_help("in a config `from`: a .nemo file, a model folder, or a name"))
    revision: str | None = field(default=None, metadata=_help("of a Hugging Face repo"))
    fresh: list[str] = field(factory=list, metadata=_help("paths of what begins afresh though the checkpoint has it"))
    freeze: list[str] | None = field(
        default=None, metadata=_help("paths of what is not trained; with lora by default all that came from the checkpoint")
    )
    train: list[str] = field(factory=list, metadata=_help("paths of what is trained though freeze names what holds it"))
    lora: LoraConfig | None = field(default=None, metadata=_help("low-rank adaptation of linear layers"))


def read(section: Any) -> InitConfig:
    """The section `init`: a mapping, the name of a checkpoint alone, or None for fresh weights.

    Raises:
        ConfigError: an unknown key or a wrong value.
    """
    if isinstance(section, InitConfig):
        return section
    if section is None:
        return InitConfig()
    if isinstance(section, str):
        section = {_FROM: section}
    if not isinstance(section, Mapping):
        raise ConfigError(f"init: expected a mapping, e.g. init: {{from: model.nemo}}, not {section!r}")
    known = [_FROM, *(a.name for a in attrs.fields(InitConfig) if a.name != "source")]
    for key in section:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"Did you mean {close[0]!r}? " if close else ""
            raise ConfigError(f"init.{key}: unknown key. {hint}Known keys: {', '.join(known)}")
    values = dict(section)
    source = values.pop(_FROM, None)
    if source is not None and not isinstance(source, str):
        raise ConfigError(f"init.from: expected the name of a checkpoint, not {source!r}")
    if isinstance(values.get("lora"), Mapping):
        configs.fill(LoraConfig, values["lora"], "init.lora")  # by itself, so that an error says where it lies
    filled: InitConfig = configs.fill(InitConfig, values, "init")
    return evolve(filled, source=source)
