"""Text to ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class Tokenizer(Protocol):
    """Text to ids and back. Ids are `0 … vocab_size - 1`; the blank of CTC and transducers comes after them."""

    vocab_size: int

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        ...

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The token of each id as it is written, word boundary marks included."""
        ...


@runtime_checkable
class TextFrontend(Protocol):
    """Text as people write it to the ids of what is spoken (letters, phonemes, tones), for synthesis.

    Ids are `0 … vocab_size - 1`. Any text is taken, the empty one included: what cannot be spoken is left out, or is a
    `ValueError`.
    """

    vocab_size: int

    def encode(self, text: str) -> list[int]:
        """The ids of what is spoken. The same text gives the same ids."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """What is spoken, written with its own symbols; not the text it came from."""
        ...
