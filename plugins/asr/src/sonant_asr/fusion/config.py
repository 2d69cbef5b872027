"""Config of the scorers a search takes."""

from __future__ import annotations

import math
from types import NoneType
from typing import Any, Literal

from attrs import field, frozen


def _help(text: str) -> dict[str, str]:
    return {"help": text}


@frozen(kw_only=True)
class FusionConfig:
    """A language model and phrases that a search listens to.

    A search takes them by a field `fusion` of its config, as below, and builds them by `scorers_of`:

        @frozen(kw_only=True)
        class MySearchConfig:
            fusion: FusionConfig = field(factory=FusionConfig, metadata={"help": "a language model and phrases to listen to"})

        class MySearch:
            def __init__(self, config: MySearchConfig, *, tokenizer: Tokenizer | None = None, files: Files | None = None):
                self.scorers = scorers_of(config.fusion, tokenizer, files)
    """

    lm: str | None = field(default=None, metadata=_help("n-gram language model over the model's tokens: ARPA, .gz of it, KenLM"))
    lm_weight: float = field(default=0.3, metadata=_help("of the language model's log-probabilities"))
    lm_tokens: Literal["auto", "pieces", "ids"] = field(
        default="auto", metadata=_help("how the language model writes tokens: as pieces, or as characters `chr(id + 100)`")
    )
    boost: Any = field(default=None, metadata=_help("phrases to favour: a list, or a mapping of each to its weight"))
    boost_weight: float = field(default=1.0, metadata=_help("of all phrases"))
    boost_language: str | None = field(default=None, metadata=_help("of the phrases, where the tokenizer has several; none: all"))
    context_score: float = field(default=1.0, metadata=_help("bonus of a phrase's first token"))
    depth_scaling: float = field(default=2.0, metadata=_help("later tokens get so many times that, plus the log of their place"))
    unk_score: float = field(default=0.0, metadata=_help("of tokens that no phrase begins with"))
    final_eos_score: float = field(default=1.0, metadata=_help("of a text that ends with a phrase"))

    def __attrs_post_init__(self) -> None:
        numbers = ("lm_weight", "boost_weight", "context_score", "depth_scaling", "unk_score", "final_eos_score")
        for name in numbers:
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} {getattr(self, name)} must be a finite number")
        _ = self.phrases

    @property
    def phrases(self) -> dict[str, float]:
        """Each phrase with its own weight, 1 by default.

        Raises:
            ValueError: one is not text or is empty, or a weight is not a positive number.
        """
        if not isinstance(self.boost, (list, tuple, dict, NoneType)):
            raise ValueError(f"boost must be a list of phrases or a mapping of phrases to weights, not {self.boost!r}")
        found = dict(self.boost) if isinstance(self.boost, dict) else dict.fromkeys(self.boost or (), 1.0)
        for phrase, weight in found.items():
            if not isinstance(phrase, str) or not phrase.strip():
                raise ValueError(f"boost: a phrase is text, not {phrase!r}; quote words that YAML reads otherwise, as no and on")
            if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < math.inf:
                raise ValueError(f"boost: the weight of {phrase!r} must be a number above 0, not {weight!r}")
        return {phrase: float(weight) for phrase, weight in found.items()}

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to listen to."""
        return self.lm is None and not self.boost
