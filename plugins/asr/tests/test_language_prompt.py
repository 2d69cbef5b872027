"""The language prompt: what the vectors are told, and what is said of languages that the model does not know."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sonant.config import fill
from sonant.errors import ConfigError
from sonant_asr.language_prompt.config import LanguagePromptConfig
from sonant_asr.language_prompt.model import LanguagePrompt
from sonant_asr.recognizer.prompt import Prompt

D = 6
LANGUAGES = {"en-US": 0, "en": 0, "de-DE": 2, "auto": 3}


def build(**fields: Any) -> LanguagePrompt:
    torch.manual_seed(0)
    config = fill(LanguagePromptConfig, {"languages": LANGUAGES, "num_prompts": 5} | fields, "prompt")
    return LanguagePrompt(config, d_in=D).double().eval().requires_grad_(False)


def test_the_number_of_the_language_stands_beside_every_vector() -> None:
    """One-hot, through two linear layers with a relu between them."""
    model = build()
    enc, lens = torch.randn(3, 4, D).double(), torch.tensor([4, 2, 0])
    told, sizes = model(enc, lens, ["de-DE", "auto", "en"])
    assert sizes.tolist() == lens.tolist()
    for row, number in enumerate((2, 3, 0)):
        beside = nn.functional.one_hot(torch.tensor(number), 5).expand(4, 5)
        widened = torch.cat([enc[row], beside], dim=-1) @ model.linear1.weight.T + model.linear1.bias
        torch.testing.assert_close(told[row], widened.clamp(min=0) @ model.linear2.weight.T + model.linear2.bias)


def test_each_recording_is_told_its_own_language() -> None:
    model = build()
    enc, lens = torch.randn(3, 4, D).double(), torch.tensor([4, 4, 4])
    prompts = [model.fill_prompt(Prompt(target_lang=lang)) for lang in ("en-US", None, "de-DE")]
    assert [prompt.target_lang for prompt in prompts] == ["en-US", "auto", "de-DE"]
    told = model.prompted(enc, lens, prompts)
    assert torch.equal(told["enc"], model(enc, lens, ["en", "auto", "de-DE"])[0]) and torch.equal(told["lens"], lens)
    assert torch.equal(model(enc, lens)[0], model(enc, lens, ["auto"] * 3)[0])


@pytest.mark.parametrize(
    ("lang", "hint"),
    [("de", " Did you mean 'de-DE'?"), ("de-De", " Did you mean 'de-DE'?"), ("xx", "")],
)
def test_a_language_that_the_model_does_not_know(lang: str, hint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build().fill_prompt(Prompt(target_lang=lang))
    assert str(refused.value) == (f"target_lang {lang!r}: this model does not know it.{hint} It knows en-US, en, de-DE, auto")


def test_a_model_that_has_to_be_told() -> None:
    model = build(languages={"en": 0, "de": 1})
    assert model.fill_prompt(Prompt(target_lang="de")).target_lang == "de"
    for call in (lambda: model.fill_prompt(Prompt()), lambda: model(torch.zeros(1, 2, D).double(), torch.tensor([2]))):
        with pytest.raises(ConfigError, match="target_lang: this model has to be told a language; it knows en, de"):
            call()
    assert build(languages={"en": 0, "de": 1}, default="en").fill_prompt(Prompt()).target_lang == "en"


@pytest.mark.parametrize("languages", [{}, {"en": 5}, {"en": -1}], ids=str)
def test_numbers_out_of_range_are_refused(languages: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="must be some, with numbers from 0 to num_prompts - 1"):
        build(languages=languages)
