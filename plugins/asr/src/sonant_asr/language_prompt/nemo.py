"""The prompt of NeMo's `…WithPrompt` models: a dictionary of languages in the config, and a `prompt_kernel`."""

from __future__ import annotations

from typing import Any

from sonant.errors import CheckpointError
from sonant.nemo import ComponentMapping, NemoSection, Rename
from sonant_asr.language_prompt.config import LanguagePromptConfig


def read(section: NemoSection) -> dict[str, Any]:
    """What `model_defaults` says of the prompt, to ours."""
    languages = section.take("prompt_dictionary", None)
    if not languages:
        raise CheckpointError("model_defaults.prompt_dictionary names no language, so that the model can be told none")
    return {"languages": languages, "num_prompts": section.take("num_prompts", None) or 128}


def write(config: LanguagePromptConfig, **_: Any) -> dict[str, Any]:
    """Our config to the entries of `model_defaults`."""
    return {
        "initialize_prompt_feature": True,
        "num_prompts": config.num_prompts,
        "prompt_dictionary": dict(config.languages),
    }


MAPPING = ComponentMapping(
    read=read,
    write=write,
    tensors=(Rename("0.{}", "linear1.{}"), Rename("2.{}", "linear2.{}")),
)
