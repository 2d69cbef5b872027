"""Configs of the tokenizers."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen


@frozen(kw_only=True)
class SentencePieceConfig:
    """Subwords by a SentencePiece model."""

    file: str = field(metadata={"help": "the model file, relative to the config, or a member of the checkpoint"})


@frozen(kw_only=True)
class CharConfig:
    """Characters."""

    labels: list[str] = field(metadata={"help": "the characters, in order of their ids"})

    def __attrs_post_init__(self) -> None:
        if len(set(self.labels)) < len(self.labels):
            twice = sorted({c for c in self.labels if self.labels.count(c) > 1})
            raise ValueError(f"labels occur more than once: {', '.join(map(repr, twice))}")
        if not self.labels:
            raise ValueError("labels must not be empty")


@frozen(kw_only=True)
class AggregateConfig:
    """A tokenizer for each language, their ids one range after the other in this order."""

    langs: dict[str, Any] = field(metadata={"help": "language to tokenizer, each with its own name and fields"})

    def __attrs_post_init__(self) -> None:
        if not self.langs:
            raise ValueError("langs must not be empty")
