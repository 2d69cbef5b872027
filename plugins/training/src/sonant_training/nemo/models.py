"""The parts of a model in NeMo's training YAML, by the tables with which checkpoints are opened."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import attrs

from sonant import config as configs
from sonant.errors import CheckpointError
from sonant.nemo import NemoSection, TaskMapping
from sonant.nemo.archive import NemoArchive
from sonant.nemo.convert import Reader
from sonant.registry import current
from sonant_training.nemo.datasets import Locate
from sonant_training.nemo.report import MISSING, Report, is_empty

_MODELS = "nemo.collections.asr.models."
_LEARNT_WITH = re.compile(r"encoder\.dropout_emb|joint\.masking_prob|transf_decoder\..*attn_score_dropout")
_READ_ELSEWHERE = re.compile(r"aux_ctc\.ctc_reduction|label_smoothing|tokenizer\..*dir|tokenizer\.dir")
_FILES = {"bpe": "tokenizer.model", "wpe": "vocab.txt"}


class _Names:
    """Stands for the archive of a checkpoint: there is none, and files are named where they lie."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def sizes(self) -> Mapping[str, int]:
        return _Any()

    def read(self, name: str) -> bytes:
        return name.encode()


class _Any(dict[str, int]):
    """Holds every file that is asked for, except a second model's."""

    def __contains__(self, name: object) -> bool:
        return not str(name).endswith(("_config.yaml", "_weights.ckpt"))


def read_model(model: NemoSection, origin: Path, locate: Locate, report: Report) -> dict[str, Any]:
    """The task and its parts, as sections of ours.

    Raises:
        CheckpointError: a part, or one of its options, that no installed plugin stands for.
    """
    target = str(model.take("target", None) or _class_of(model))
    component = current().stands_for("task", target)
    if component is None or component.spec.nemo is None:
        reason = current().refusal("task", target)
        because = f": {reason}" if reason else ""
        raise CheckpointError(f"the model is a {target!r}, and no installed plugin stands for it{because}")
    values = {key: model.take(key) for key in model.keys()}  # noqa: SIM118 (it is no mapping)
    if isinstance(values.get("tokenizer"), Mapping):
        values["tokenizer"] = _tokenizer(values["tokenizer"], locate)
    document = NemoSection(values, "")
    reader = Reader(cast(NemoArchive, _Names(origin)), target)
    mapping: TaskMapping = configs.load_target(component.spec.nemo.mapping, configs.label(component))
    task, parts = mapping.read(document, reader)
    reader.finish(document)
    _tell(reader.notes, values, report)
    kinds = {part.key: part.kind for part in component.spec.parts} | {"task": "task"}
    sections = {"task": {"name": component.spec.name, **task}} | {key: dict(part.section) for key, part in parts.items()}
    return {key: _short(kinds[key], section, key) for key, section in sections.items()}


def _short(kind: str, section: Mapping[str, Any], path: str) -> Any:
    """A section without the values that it would have anyway; its name alone where there are no others."""
    values = dict(section)
    for field in attrs.fields(configs.config_class(current().get(kind, section["name"]))):
        default = field.default.factory() if isinstance(field.default, attrs.Factory) else field.default  # type: ignore[arg-type]
        if field.name in values and values[field.name] == default:
            del values[field.name]
    return values if len(values) > 1 or path != "task" else values["name"]


def _class_of(model: NemoSection) -> str:
    """NeMo's class: a training script names it, not its config."""
    kind = "_bpe" if model.peek("tokenizer") else ""
    suffix = kind.removeprefix("_").upper()
    if "transf_decoder" in model:
        return f"{_MODELS}aed_multitask_models.EncDecMultiTaskModel"
    if "joint" in model and "aux_ctc" in model:
        return f"{_MODELS}hybrid_rnnt_ctc{kind}_models.EncDecHybridRNNTCTC{suffix}Model"
    if "joint" in model:
        return f"{_MODELS}rnnt{kind}_models.EncDecRNNT{suffix}Model"
    head = str((model.peek("decoder") or {}).get("_target_", ""))
    if "encoder" in model and head.endswith("ConvASRDecoder"):
        return f"{_MODELS}ctc{kind}_models.EncDecCTCModel{suffix}"
    raise CheckpointError(
        f"the section model has {', '.join(model.keys()) or 'nothing'}, which is no recognizer with a CTC, transducer, hybrid or "
        "attention head; others cannot be converted yet"
    )


def _tokenizer(section: Mapping[str, Any], locate: Locate) -> dict[str, Any]:
    """The section as a checkpoint has it, with the file that `dir` holds."""
    values = dict(section)
    if isinstance(values.get("langs"), Mapping):
        return values | {"langs": {lang: _tokenizer(one, locate) for lang, one in values["langs"].items()}}
    folder = values.get("dir")
    if values.get("type") == MISSING:
        values["type"] = "bpe"
    if folder is not None and not values.get("model_path"):
        name = _FILES.get(str(values.get("type")), "")
        values["model_path"] = MISSING if folder == MISSING else locate(f"{str(folder).rstrip('/')}/{name}")
    return values


def _tell(notes: list[str], values: Mapping[str, Any], report: Report) -> None:
    for path in (note.removeprefix("dropped ") for note in notes):
        value: Any = values
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if _LEARNT_WITH.fullmatch(path) and value:
            report.change(path, f"{value} is left out")
        elif not is_empty(value) and not _READ_ELSEWHERE.fullmatch(path):
            report.unused.append(path)
