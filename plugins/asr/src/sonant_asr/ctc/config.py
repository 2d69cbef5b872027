"""Configs of the CTC head and its search."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class CtcConfig:
    """A linear layer has nothing to configure: its sizes follow from the encoder and the tokenizer."""


@frozen(kw_only=True)
class CtcGreedyConfig:
    """Greedy search has nothing to configure."""
