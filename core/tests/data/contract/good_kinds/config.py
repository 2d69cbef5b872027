"""Configs of the good components."""

from __future__ import annotations

from attrs import field, frozen


@frozen(kw_only=True)
class Empty:
    """Nothing to configure."""


@frozen(kw_only=True)
class Rate:
    lr: float = field(default=0.1, metadata={"help": "learning rate"})


@frozen(kw_only=True)
class Warmup:
    steps: int = field(default=10, metadata={"help": "steps of growing learning rates"})


@frozen(kw_only=True)
class Grid:
    levels: int = field(default=5, metadata={"help": "codes of each codebook"})
    books: int = field(default=3, metadata={"help": "codebooks"})
