"""Prompts of the Canary models: what is asked for as the tokens that a text begins with.

`canary` (of canary-1b) is `<|startoftranscript|>`, the language spoken, the task, the language to write, and whether to
punctuate.
`canary2` (of the flash models and canary-1b-v2) is `<|startofcontext|>`, text that came before, `<|startoftranscript|>`, and a
token for each of emotion, the two languages, punctuation, inverse text normalization, timestamps, and diarization.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import attrs

from sonant.errors import ConfigError
from sonant.protocols import Tokenizer
from sonant_asr.recognizer.prompt import Prompt

BEGIN: Final = "<|startoftranscript|>"
CONTEXT: Final = "<|startofcontext|>"
END: Final = "<|endoftext|>"
_EMOTION: Final = "<|emo:undefined|>"
_SWITCHES: Final = {"punctuation": "pnc", "itn": "itn", "timestamps": "timestamp", "diarize": "diarize"}
_FIELDS: Final = {
    "canary": ("source_lang", "target_lang", "task", "punctuation", "timestamps"),
    "canary2": ("source_lang", "target_lang", "punctuation", "itn", "timestamps", "diarize", "context"),
}
_SLOTS: Final = {  # of `prompt_defaults`, as NeMo calls them
    "source_lang": "source_lang",
    "target_lang": "target_lang",
    "task": "task",
    "pnc": "punctuation",
    "itn": "itn",
    "timestamp": "timestamps",
    "diarize": "diarize",
    "decodercontext": "context",
    "emotion": None,
}
_NO_LANGUAGES: Final = {  # tokens that would end a text, or begin another one, where a language stands
    *(token[2:-2] for token in (BEGIN, CONTEXT, END, _EMOTION)),
    *("pad", "nospeech", "transcribe", "translate"),
    *(f"{no}{switch}" for switch in _SWITCHES.values() for no in ("", "no")),
}
_BUILT_IN: Final = Prompt(
    source_lang="en",
    target_lang="en",
    punctuation=True,
    itn=False,
    timestamps=False,
    diarize=False,
    context="",
)


class CanaryPrompt:
    """Makes tokens of prompts.

    Args:
        format: `canary`, `canary2` or `none`.
        defaults: what a model's own prompts say, by NeMo's names of the slots.
        tokenizer: with the special tokens.

    A model that is told nothing (`none`, or no tokenizer) begins texts with `<s>` and ends them with `</s>`, or else with its
    first two labels.
    """

    def __init__(self, format: str, defaults: Mapping[str, Any], tokenizer: Tokenizer | None) -> None:
        self.format, self.tokenizer = format, tokenizer
        unknown = sorted(defaults.keys() - _SLOTS.keys())
        if unknown:
            raise ValueError(f"prompt_defaults: there is no slot {unknown[0]!r}; there are {', '.join(_SLOTS)}")
        own = Prompt(**{field: defaults.get(slot) for slot, field in _SLOTS.items() if field is not None})
        self._defaults = own.or_else(_BUILT_IN)
        self._emotion = defaults.get("emotion") or _EMOTION
        self._special = getattr(tokenizer, "special", None) or (lambda piece: None)
        self._plain: int | None = None  # all that there is of a prompt
        if tokenizer is None or format == "none":
            self._plain = self._special("<s>") or 0
            self.eos = self._special("</s>") or 1
        else:
            self.eos = self._token(END)
        self.fields: tuple[str, ...] = () if self._plain is not None else _FIELDS[format]

    def fill(self, prompt: Prompt) -> Prompt:
        """`prompt` with the model's own choice where nothing was asked.

        A spoken language that is asked for alone is also the one to write. Languages that differ make the task a translation.

        Raises:
            ConfigError: there is no token for what was asked.
        """
        if prompt.target_lang is None and prompt.task != "translate":
            prompt = attrs.evolve(prompt, target_lang=prompt.source_lang)
        filled = prompt.or_else(self._defaults)
        if prompt.task is None and (prompt.target_lang or prompt.source_lang):
            same = filled.source_lang == filled.target_lang
            filled = attrs.evolve(filled, task="transcribe" if same else "translate")
        filled = filled.or_else(Prompt(task="transcribe"))
        self.encode(filled)
        return filled

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """The ids of a filled prompt.

        Raises:
            ConfigError: there is no token for what it says.
        """
        if self._plain is not None:
            return (self._plain,)
        if self.format == "canary" and prompt.timestamps:
            raise ConfigError(
                "timestamps: this model writes none, and its file has no second model that could find them; leave them out"
            )
        languages = {name: self._language(name, getattr(prompt, name)) for name in ("source_lang", "target_lang")}
        pnc, itn, timestamp, diarize = (self._switch(prompt, field) for field in _SWITCHES)
        source, target = languages["source_lang"], languages["target_lang"]
        if self.format == "canary":
            return self._encode([BEGIN, source, f"<|{prompt.task}|>", target, pnc])
        before = [CONTEXT, prompt.context or ""]
        return self._encode([*before, BEGIN, self._emotion, source, target, pnc, itn, timestamp, diarize], prompt.target_lang)

    def spell(self, text: str, language: str | None) -> list[int]:
        """The ids of a text behind the prompt, as `language` spells it.

        Raises:
            ConfigError: the tokenizer does not have it.
        """
        if not hasattr(self.tokenizer, "languages"):
            return list(self.tokenizer.encode(text))  # type: ignore[union-attr]
        return self._spell("text", text, str(language))

    def _encode(self, parts: list[str], language: str | None = None) -> tuple[int, ...]:
        """Special tokens one by one, and free text between them as `language` spells it."""
        if not hasattr(self.tokenizer, "languages"):  # one SentencePiece model reads all of it, and so may begin with a space
            for part in parts:
                if _is_special(part):
                    self._token(part)
            return tuple(self.tokenizer.encode("".join(parts)))  # type: ignore[union-attr]
        ids: list[int] = []
        for part in filter(None, parts):
            ids += [self._token(part)] if _is_special(part) else self._spell("context", part, str(language))
        return tuple(ids)

    def _spell(self, what: str, text: str, language: str) -> list[int]:
        """Text by the tokenizer of its language, which may be called `en` or `en-US`."""
        known: tuple[str, ...] = self.tokenizer.languages  # type: ignore[union-attr]
        name = next((one for one in known if one == language or one.partition("-")[0] == language), None)
        if name is None:
            raise ConfigError(f"{what}: the tokenizer has no language {language!r}; it has {', '.join(known)}")
        return list(self.tokenizer.encode(text, name))  # type: ignore[union-attr, call-arg]

    def _language(self, field: str, name: str | None) -> str:
        try:
            if name in _NO_LANGUAGES:
                raise ConfigError(f"<|{name}|> is a token of another kind")
            self._token(f"<|{name}|>")
        except ConfigError:
            raise ConfigError(f"{field}={name!r}: this model knows {', '.join(self._languages())}") from None
        return f"<|{name}|>"

    def _languages(self) -> list[str]:
        """The languages that there are tokens for."""
        pieces = self.tokenizer.pieces(range(self.tokenizer.vocab_size))  # type: ignore[union-attr]
        return sorted({piece[2:-2] for piece in pieces if re.fullmatch(r"<\|[a-z]{2}(-[A-Z]{2})?\|>", piece)})

    def _switch(self, prompt: Prompt, field: str) -> str:
        return f"<|{'' if getattr(prompt, field) else 'no'}{_SWITCHES[field]}|>"

    def _token(self, piece: str) -> int:
        """
        Raises:
            ConfigError: the tokenizer has no such piece.
        """
        id = self._special(piece)
        if id is None:
            raise ConfigError(f"the tokenizer has no token {piece}, which this model's prompts need")
        return int(id)


def _is_special(part: str) -> bool:
    return part.startswith("<|") and part.endswith("|>")
