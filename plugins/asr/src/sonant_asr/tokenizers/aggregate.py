"""Several tokenizers side by side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

from sonant.build import instantiate
from sonant.config import fill_section
from sonant.files import Files
from sonant_asr.tokenizers.config import AggregateConfig

SPECIAL: Final = "spl_tokens"
"""The "language" of special tokens, in the tokenizers of Canary models."""


class Aggregate:
    """A tokenizer for each language; the ids of the second begin where those of the first end, and so on."""

    def __init__(self, config: AggregateConfig, *, files: Files) -> None:
        self.config = config
        self.languages = tuple(config.langs)
        self._parts: list[Any] = [
            instantiate(
                fill_section("tokenizer", section, f"tokenizer.langs.{lang}"), f"tokenizer.langs.{lang}", {"files": files}
            )
            for lang, section in config.langs.items()
        ]
        self._offsets = [sum(p.vocab_size for p in self._parts[:n]) for n in range(len(self._parts))]
        self.vocab_size: int = sum(p.vocab_size for p in self._parts)

    def encode(self, text: str, language: str | None = None) -> list[int]:
        """Text to ids of `language`, the first by default.

        Raises:
            ValueError: no such language.
        """
        if language is not None and language not in self.languages:
            raise ValueError(f"this tokenizer has no language {language!r}; it has {', '.join(self.languages)}")
        part = 0 if language is None else self.languages.index(language)
        return [i + self._offsets[part] for i in self._parts[part].encode(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """Ids to text; each run of ids of one language by that language's tokenizer.

        With special tokens among them, text is what the pieces say one after the other, the space before the first included.
        """
        if SPECIAL in self.languages:
            return "".join(self.pieces(ids)).replace("▁", " ")
        text = ""
        for part, run in groupby(ids, key=self._part):
            tokenizer, own = self._parts[part], [i - self._offsets[part] for i in run]
            more = tokenizer.decode(own)
            # SentencePiece drops the space of its first word, which here has words of another language before it.
            if text and tokenizer.pieces(own[:1])[0].startswith("▁") and not more.startswith((" ", "▁")):
                text += " "
            text += more
        return text

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The pieces as each tokenizer writes them."""
        return [self._parts[self._part(i)].pieces([i - self._offsets[self._part(i)]])[0] for i in ids]

    def special(self, piece: str) -> int | None:
        """The id of a special token, as `<|en|>`; None where there is none. One of the languages holds them."""
        if SPECIAL not in self.languages:
            return None
        part = self.languages.index(SPECIAL)
        id = self._parts[part].special(piece)
        return None if id is None else id + self._offsets[part]

    def language(self, id: int) -> str:
        """Which language an id belongs to."""
        return self.languages[self._part(id)]

    def _part(self, id: int) -> int:
        return sum(id >= offset for offset in self._offsets[1:])
