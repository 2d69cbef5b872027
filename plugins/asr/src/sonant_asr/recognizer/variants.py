"""NeMo's recognizers that are told a language or mark the ends of utterances: what their documents have beside the others'."""

from __future__ import annotations

from typing import Any

from sonant.errors import CheckpointError
from sonant.nemo import NemoSection, Placed
from sonant.nemo.convert import Reader, Writer
from sonant_asr.recognizer.utterances import NEMO_ENDS

_PROMPT = ("initialize_prompt_feature", "num_prompts", "prompt_dictionary")


def read_prompt(document: NemoSection, reader: Reader) -> dict[str, Placed]:
    """The part `prompt` of a model that has one."""
    defaults = document.peek("model_defaults") or {}
    document.drop("num_prompts", "subsampling_factor", "bleu_tokenizer")
    if not reader.target.endswith("WithPrompt") or not defaults.get("initialize_prompt_feature"):
        return {}
    section = NemoSection({key: defaults[key] for key in _PROMPT[1:] if key in defaults}, "model_defaults")
    return {"prompt": reader.component("encoder", section, "prompt_kernel.", target="prompt_kernel")}


def read_task(target: str) -> dict[str, Any]:
    """What the class of a model says of the task."""
    return {"end_of_utterance": list(NEMO_ENDS)} if target.endswith("EOUModel") else {}


def write_variant(document: dict[str, Any], parts: dict[str, Placed], ends: list[str], writer: Writer) -> dict[str, Any]:
    """The document with what these models have beside the others', and their classes.

    Raises:
        CheckpointError: NeMo has no such model.
    """
    kinds = [kind for kind, there in (("prompt", "prompt" in writer.blueprint.config.parts), ("ends", bool(ends))) if there]
    if not kinds:
        return document
    hybrid, (kind, *more) = "aux_ctc" in document, kinds
    if more or "joint" not in document or "tokenizer" not in document:
        raise CheckpointError(
            f"NeMo has no model with {' and '.join(_WORDS[k] for k in kinds)} of this kind: it has transducers with subwords"
        )
    if kind == "ends" and sorted(ends) != sorted(NEMO_ENDS):
        raise CheckpointError(f"task.end_of_utterance is {ends}; NeMo's models have {list(NEMO_ENDS)}")
    if kind == "prompt":
        written, parts["prompt"] = writer.component("prompt", "prompt_kernel.")
        document = document | {"model_defaults": document["model_defaults"] | written}
    return document | {"target": _CLASSES[kind, hybrid]}


_WORDS = {"prompt": "a language prompt", "ends": "ends of utterances"}
_MODELS = "nemo.collections.asr.models."
_CLASSES = {
    ("prompt", False): f"{_MODELS}rnnt_bpe_models_prompt.EncDecRNNTBPEModelWithPrompt",
    ("prompt", True): f"{_MODELS}hybrid_rnnt_ctc_bpe_models_prompt.EncDecHybridRNNTCTCBPEModelWithPrompt",
    ("ends", False): f"{_MODELS}asr_eou_models.EncDecRNNTBPEEOUModel",
    ("ends", True): f"{_MODELS}asr_eou_models.EncDecHybridRNNTCTCBPEEOUModel",
}
