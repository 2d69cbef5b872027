"""Tells a model behind its encoder which language to write."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import torch
from attrs import evolve
from torch import Tensor, nn
from torch.nn import functional

from sonant.errors import ConfigError
from sonant_asr.language_prompt.config import LanguagePromptConfig
from sonant_asr.recognizer.prompt import Prompt


class LanguagePrompt(nn.Module):
    """The encoder's vectors beside the number of a language, through two linear layers, to vectors of the same width.

    Args:
        config: the languages.
        d_in: width of the encoder.
    """

    subsampling = 1
    prompt_fields = ("target_lang",)

    def __init__(self, config: LanguagePromptConfig, *, d_in: int) -> None:
        super().__init__()
        self.config = config
        self.d_in = self.d_out = d_in
        self.linear1 = nn.Linear(d_in + config.num_prompts, 2 * d_in)
        self.linear2 = nn.Linear(2 * d_in, d_in)

    def forward(self, feats: Tensor, lens: Tensor, langs: Sequence[str] | None = None) -> tuple[Tensor, Tensor]:
        """`(B, T, D)`, `(B,)` to the same, told `langs`, a language each, or the default."""
        langs = [self._known(None)] * len(feats) if langs is None else langs
        numbers = torch.tensor([self.config.languages[lang] for lang in langs], device=feats.device, dtype=torch.long)
        # The number stands in the vectors as zeros and a one: that picks a column of the weight.
        weight, columns = self.linear1.weight.split([self.d_in, self.config.num_prompts], dim=1)
        told = functional.linear(feats.to(weight.dtype), weight, self.linear1.bias) + columns.T[numbers][:, None]
        return self.linear2(torch.relu(told)), lens

    def fill_prompt(self, prompt: Prompt) -> Prompt:
        """`prompt` with the default language where none is asked for.

        Raises:
            ConfigError: the model does not know the language, or has to be told one.
        """
        return evolve(prompt, target_lang=self._known(prompt.target_lang))

    def prompted(self, enc: Tensor, lens: Tensor, prompts: Sequence[Prompt]) -> dict[str, Any]:
        """What the search is called with: the vectors `(B, T, D)`, told a language each."""
        told, lens = self(enc, lens, [self._known(prompt.target_lang) for prompt in prompts])
        return {"enc": told, "lens": lens}

    def _known(self, lang: str | None) -> str:
        known = self.config.languages
        wanted = self.config.default if lang is None else lang
        if wanted in known:
            return wanted
        listed = ", ".join(known)
        if lang is None:
            raise ConfigError(f"target_lang: this model has to be told a language; it knows {listed}")
        close = [name for name in known if name.startswith(f"{lang}-")] or difflib.get_close_matches(lang, known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"target_lang {lang!r}: this model does not know it.{hint} It knows {listed}")
