"""Config of the language prompt."""

from __future__ import annotations

from attrs import field, frozen


def _help(text: str) -> dict[str, str]:
    return {"help": text}


@frozen(kw_only=True)
class LanguagePromptConfig:
    """Which languages a model can be told, and by which number it knows them."""

    languages: dict[str, int] = field(metadata=_help("the number of each language, as en-US: 0; several may share one"))
    num_prompts: int = field(default=128, metadata=_help("how many numbers there are"))
    default: str = field(default="auto", metadata=_help("the language where none is asked for, if it is among them"))

    def __attrs_post_init__(self) -> None:
        wrong = {lang: number for lang, number in self.languages.items() if not 0 <= number < self.num_prompts}
        if wrong or not self.languages:
            raise ValueError(f"languages {dict(self.languages)} must be some, with numbers from 0 to num_prompts - 1")
