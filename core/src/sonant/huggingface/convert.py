"""From a Hugging Face model to a Sonant config and state, and back, by the tables that plugins contribute."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from sonant import config as configs
from sonant import registry
from sonant.build import Blueprint
from sonant.config import ModelConfig
from sonant.errors import CheckpointError
from sonant.files import Files
from sonant.huggingface.folder import HuggingFaceFolder
from sonant.layout import HF_CONFIG, HF_PREPROCESSOR, HF_PROCESSOR
from sonant.mapping import (
    ComponentMapping,
    Converted,
    ForeignSection,
    Placed,
    TaskMapping,
    fill,
    located,
    read_state,
    write_state,
)
from sonant.registry import Registered
from sonant.weights import State

FORM: Final = "Hugging Face"
_GENERAL: Final = (  # keys that any config of transformers may have and that do not say what is computed
    *("architectures", "auto_map", "dtype", "torch_dtype", "transformers_version", "_name_or_path", "_attn_implementation"),
    *("initializer_range", "return_dict", "output_attentions", "output_hidden_states", "torchscript", "use_bfloat16"),
    *("chunk_size_feed_forward", "pruned_heads", "problem_type", "task_specific_params", "id2label", "label2id"),
    *("is_decoder", "is_encoder_decoder", "add_cross_attention", "cross_attention_hidden_size", "tie_encoder_decoder"),
    *("tie_word_embeddings", "finetuning_task", "prefix", "tokenizer_class", "processor_class", "use_cache"),
    *("bos_token_id", "eos_token_id", "sep_token_id", "pad_token_id", "decoder_start_token_id"),
)
_SAME: Final = 1e-5  # of tensors that the form computes from its config: how far a model's own may be off


class Reader:
    """Given to a task's mapping: reads sections by the tables of the components they name."""

    def __init__(self, folder: HuggingFaceFolder, target: str) -> None:
        self.folder = folder
        self.target = target
        self.notes: list[str] = []
        self.files: dict[str, bytes] = {}

    def component(self, kind: str, name: str, section: ForeignSection, prefix: str) -> Placed:
        """Read one section by the table of the installed component that stands for `name`.

        Raises:
            CheckpointError: there is none, or the section has keys its table does not know.
        """
        component = registry.current().stands_for(kind, name, "huggingface")
        if component is None:
            known = sorted({n for r in registry.current() if r.spec.kind == kind for n in r.spec.stands_for("huggingface")})
            raise CheckpointError(
                f"{self.folder.path}: its {kind} is {name!r}, and no installed plugin provides one that stands for it "
                f"(known: {', '.join(known) or 'none'}). Nothing was imported or run."
            )
        mapping: ComponentMapping = _mapping(component)
        ours = mapping.read(section)
        self.finish(section)
        return Placed({"name": component.spec.name} | ours, prefix, mapping)

    def finish(self, section: ForeignSection) -> None:
        """Check that nothing is left of a section, but for what any config may have, and note what was dropped."""
        for key in _GENERAL:
            section.take(key, None)
        self.notes += [f"dropped {key}" for key in section.finish()]

    def feature_extractor(self) -> ForeignSection:
        """The settings of the features, from the file that has them: releases of transformers differ there."""
        values = self.folder.json(HF_PROCESSOR).get("feature_extractor") if HF_PROCESSOR in self.folder else None
        if values is None:
            return ForeignSection(self.folder.json(HF_PREPROCESSOR), HF_PREPROCESSOR, FORM)
        return ForeignSection(values, f"{HF_PROCESSOR}: feature_extractor", FORM)

    def store(self, name: str, content: bytes) -> str:
        """Give the model a file; returns the name that a section can call it by."""
        self.files[name] = content
        return name


class Writer:
    """Given to a task's mapping for writing: the counterpart of `Reader`."""

    def __init__(self, blueprint: Blueprint, model: nn.Module) -> None:
        self.blueprint = blueprint
        self.model = model
        self.documents: dict[str, Any] = {}

    def parts(self) -> dict[str, Any]:
        """The model's parts by section, for the sizes that the foreign config repeats."""
        return {key: getattr(self.model, key) for key in self.blueprint.config.parts}

    def component(self, key: str, prefix: str, **sizes: Any) -> tuple[dict[str, Any], Placed]:
        """Write the part `key`; returns the foreign section and its placement.

        Raises:
            CheckpointError: the component has no counterpart there.
        """
        section = self.blueprint.config.parts[key]
        mapping: ComponentMapping = _mapping(section.component)
        return mapping.write(section.config, **sizes), Placed(section.to_dict(), prefix, mapping)

    def store(self, name: str, document: Any) -> None:
        """Write `document` as the JSON file `name`."""
        self.documents[name] = document


def _mapping(component: Registered) -> Any:
    if component.spec.huggingface is None:
        raise CheckpointError(f"{configs.label(component)} has no counterpart in {FORM}'s transformers")
    return configs.load_target(component.spec.huggingface.mapping, configs.label(component))


def read_huggingface(path: Path) -> Converted:
    """Convert the model in a folder.

    Raises:
        CheckpointError: no installed task stands for it, or it holds anything that no table speaks of, by name.
    """
    folder = HuggingFaceFolder(path)
    document = ForeignSection(folder.json(HF_CONFIG), "", FORM)
    target = architecture(document.peek("architectures"))
    component = registry.current().stands_for("task", target, "huggingface")
    if component is None:
        known = sorted({n for r in registry.current() for n in r.spec.stands_for("huggingface") if r.spec.kind == "task"})
        raise CheckpointError(
            f"{path}: its architecture is {target!r}, and no installed plugin stands for it (known: "
            f"{', '.join(known) or 'none'}). Nothing was imported or run."
        )
    mapping: TaskMapping = _mapping(component)
    reader = Reader(folder, target)
    with located(str(path), FORM):
        task, parts = mapping.read(document, reader)
        reader.finish(document)
    config = fill(component.spec.name, task, parts, str(path))
    state, ignored = read_state(folder.state(), parts, str(path))
    notes = (*reader.notes, *(f"dropped tensor {name}" for name in ignored))
    try:
        derived = _derived(config, parts)
    except (ValueError, LookupError, RuntimeError, ArithmeticError, MemoryError) as error:  # sizes that no machine has
        raise CheckpointError(f"{path}: what follows from its config cannot be computed: {error}") from error
    return Converted(config, Files.of(reader.files, str(path)), derived | state, notes)


def architecture(names: Any) -> str:
    """The class that a config says it was saved from, the first where there are several."""
    return str(names[0]) if isinstance(names, list) and names else ""


def _derived(config: ModelConfig, parts: Mapping[str, Placed]) -> State:
    """The tensors of ours that the form does not hold, by our names."""
    state: State = {}
    for key, part in parts.items():
        if part.mapping.derived is not None:
            state |= {f"{key}.{name}": tensor for name, tensor in part.mapping.derived(config.parts[key].config).items()}
    return state


def write_huggingface(blueprint: Blueprint, model: nn.Module) -> tuple[dict[str, str], State]:
    """The JSON files, by name, and the tensors of a model for transformers to open.

    Raises:
        CheckpointError: a component or a tensor has no counterpart there.
    """
    mapping: TaskMapping = _mapping(blueprint.config.task.component)
    writer = Writer(blueprint, model)
    document, parts = mapping.write(blueprint.config, writer)
    state = dict(model.state_dict())
    for name, tensor in _derived(blueprint.config, parts).items():
        if not torch.allclose(state.pop(name).float().cpu(), tensor.float(), rtol=_SAME, atol=_SAME):
            raise CheckpointError(
                f"{name} of this model is not what {FORM}'s transformers would compute, and cannot be kept there"
            )
    texts = {
        name: json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        for name, content in ({HF_CONFIG: document} | writer.documents).items()
    }
    return texts, write_state(state, parts, f"{FORM}'s transformers")
