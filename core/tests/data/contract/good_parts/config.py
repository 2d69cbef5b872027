"""Configs of the good parts."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen


@frozen(kw_only=True)
class Empty:
    """Nothing to configure."""


@frozen(kw_only=True)
class Blocks:
    sample_rate: int = field(default=8000, metadata={"help": "Hz"})
    bins: int = field(default=40, metadata={"help": "bins"})
    scales: list[float] = field(factory=lambda: [1.0, 0.5], metadata={"help": "of the filters"})


@frozen(kw_only=True)
class RunningMean:
    width: int = field(default=256, metadata={"help": "width"})
    options: dict[str, Any] = field(factory=dict, metadata={"help": "none so far"})


@frozen(kw_only=True)
class Letters:
    alphabet: str = field(default="abcde ", metadata={"help": "the characters, in order of their ids"})


@frozen(kw_only=True)
class Listed:
    file: str = field(metadata={"help": "one word a line"})
