"""How recordings are recognized: the options that `sonant transcribe` and `sonant evaluate` share, as one value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import attrs
from attrs import field, frozen

from sonant_asr.fusion.phrases import listened


def _for_text(default: Any = None) -> Any:
    """A setting that changes what is written."""
    return field(default=default, metadata={"changes": "text"})


def _for_prompt() -> Any:
    """What a model that takes prompts is asked for."""
    return field(default=None, metadata={"changes": "text", "part": "prompt"})


@frozen(kw_only=True)
class Settings:
    """The options, by their names, with their defaults."""

    model: str = field(metadata={"changes": "text"})
    device: str = "auto"
    dtype: str = "auto"
    threads: int | None = None
    registry: str | None = None
    batch_size: int = 16
    batch_seconds: float | None = None
    confidence: bool = False
    decoder: str | None = _for_text()
    search: str | None = _for_text()
    beam: int | None = _for_text()
    n_best: int | None = _for_text()
    boost: str | None = _for_text()
    boost_file: str | None = _for_text()
    boost_weight: float | None = _for_text()
    lm: str | None = _for_text()
    lm_weight: float | None = _for_text()
    chunking: str | None = _for_text()
    channel: int | None = _for_text()
    source_lang: str | None = _for_prompt()
    target_lang: str | None = _for_prompt()
    task: str | None = _for_prompt()
    punctuation: bool | None = _for_prompt()
    itn: bool | None = _for_prompt()
    diarize: bool | None = _for_prompt()
    context: str | None = _for_prompt()

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """Those of a command's options that are settings."""
        return cls(**{slot.name: options[slot.name] for slot in attrs.fields(cls) if slot.name in options})

    @property
    def by(self) -> dict[str, Any]:
        """What decides the text, as far as it was said; what a row tells of how it was recognized."""
        return {name: value for name in DECIDES if (value := getattr(self, name)) is not None}

    @property
    def prompt(self) -> dict[str, Any]:
        """What a model that takes prompts is asked for."""
        prompt = (slot.name for slot in attrs.fields(type(self)) if slot.metadata.get("part") == "prompt")
        return {name: value for name in prompt if (value := getattr(self, name)) is not None}

    def listening(self) -> dict[str, Any]:
        """How labels are found, as `transcribe` and `streams` take it.

        Raises:
            ConfigError: the phrases cannot be read.
        """
        phrases = listened(self.boost, self.boost_file, self.boost_weight, self.lm, self.lm_weight)
        return {"decoder": self.decoder, "search": self._search(), "confidence": self.confidence, **phrases}

    def transcribing(self) -> dict[str, Any]:
        """The arguments of `transcribe`.

        Raises:
            ConfigError: the phrases cannot be read.
        """
        batches = {"batch_size": self.batch_size, "batch_seconds": self.batch_seconds, "channel": self.channel}
        return {**batches, "chunking": self.chunking or "auto", **self.listening(), **self.prompt}

    def _search(self) -> str | dict[str, Any] | None:
        fields = {"beam_size": self.beam, "n_best": self.n_best, "name": self.search}
        given = {name: value for name, value in fields.items() if value is not None}
        return self.search if given.keys() <= {"name"} else given


DECIDES = tuple(slot.name for slot in attrs.fields(Settings) if slot.metadata.get("changes") == "text")
"""The settings that decide the text."""
