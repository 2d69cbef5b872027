"""Character tokenizer."""

from __future__ import annotations

from collections.abc import Sequence

from sonant_asr.tokenizers.config import CharConfig


class Char:
    """One id for each listed character."""

    def __init__(self, config: CharConfig) -> None:
        self.config = config
        self.labels = tuple(config.labels)
        self.vocab_size = len(self.labels)
        self._ids = {label: n for n, label in enumerate(self.labels)}

    def encode(self, text: str) -> list[int]:
        """Text to ids.

        Raises:
            ValueError: the text has characters that are not among the labels.
        """
        unknown = sorted(set(text) - self._ids.keys())
        if unknown:
            raise ValueError(f"the text has characters that this tokenizer does not know: {''.join(unknown)!r}")
        return [self._ids[c] for c in text]

    def decode(self, ids: Sequence[int]) -> str:
        """Ids to text, spaces as they are."""
        return "".join(self.labels[i] for i in ids)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The characters."""
        return [self.labels[i] for i in ids]
