"""A training YAML of NeMo's as the config of a run of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from sonant import config as configs
from sonant.errors import CheckpointError, ConfigError
from sonant.mapping import located
from sonant.nemo import NemoSection
from sonant.nemo.interpolation import resolve
from sonant_training.nemo import datasets, experiment, idle
from sonant_training.nemo.losses import read_losses
from sonant_training.nemo.models import read_model
from sonant_training.nemo.optimizing import read_optim
from sonant_training.nemo.report import MISSING, Report, shown
from sonant_training.running import reading

_SWITCHES = ("variational_noise", "freeze_updates")
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
_STAND_INS: Mapping[str, Any] = {"max_steps": 1, "prompt_format": "canary"}
_PARTS = ("preprocessor", "encoder", "decoder", "joint")
_PARTS_OF_MODELS = {"ctc_decoder": "aux_decoder", "transf_decoder": "decoder", "transf_encoder": "decoder.transf_encoder"}
_TRANSDUCER_PARTS = {"ctc_decoder": "aux_decoder", "decoder": "decoder.prediction", "joint": "decoder.joint"}
_INITS = ("init_from_nemo_model", "init_from_pretrained_model")


@frozen
class Conversion:
    """The config of ours, and what became of NeMo's."""

    config: dict[str, Any]
    report: Report


def convert(path: Path, locate: datasets.Locate = str, max_steps: int | None = None) -> Conversion:
    """Convert a training YAML of NeMo's. Nothing that it names is imported or run.

    Args:
        path: the file.
        locate: from the name of a file in it to that in the new config.
        max_steps: the length of the run, instead of what the file says.

    Raises:
        ConfigError: it is no YAML, or what came of it does not hold together.
        CheckpointError: a part of it has no counterpart.
        UnknownName: a component is not installed.
    """
    document, report = resolve(_numbers(configs.load_yaml(path)), str(path)), Report()
    with located(str(path), "NeMo"):
        config = _convert(NemoSection(document, ""), path, locate, max_steps, report)
    report.open.extend(_missing(config))
    try:
        reading.read(_filled_in(config))
    except ConfigError as error:
        raise ConfigError(f"{path}: converted, it does not hold together: {error}") from error
    return Conversion(config, report)


def _convert(whole: NemoSection, path: Path, locate: datasets.Locate, max_steps: int | None, report: Report) -> dict[str, Any]:
    if not isinstance(whole.peek("model"), Mapping):
        raise CheckpointError("it has no section model, which NeMo's training configs have")
    model, trainer = NemoSection(whole.take("model"), ""), whole.take("trainer", None) or {}
    init = _init(whole, model, locate, report)
    run = _read_sets(model, locate, report)
    run |= _read_optim(model, max_steps or experiment.steps_of(trainer), report)
    run["trainer"] = experiment.read_trainer(trainer, max_steps, report)
    kept = experiment.read_exp_manager(whole.take("exp_manager", None) or {}, whole.take("name", None), report)
    run["exp_manager"] = kept | experiment.read_time(trainer, kept, report)
    report.close(NemoSection({key: model.take(key, None) for key in (*_SWITCHES, *idle.MODEL)}, ""), idle.MODEL)
    report.close(whole, idle.DOCUMENT)
    losses = {key: model.take(key, None) for key in ("loss", "ctc_reduction", "rnnt_reduction")}
    losses |= {key: model.peek(key) for key in ("aux_ctc", "label_smoothing")}  # the parts have these too
    parts = read_model(model, path, locate, report)
    return parts | init | read_losses(NemoSection(losses, ""), parts["decoder"], report) | run


def _read_sets(model: NemoSection, locate: datasets.Locate, report: Report) -> dict[str, Any]:
    found = {"train_ds": datasets.read_set(model.take("train_ds", None) or {}, "train_ds", locate, report)}
    for key, unset in (("validation_ds", (None, "")), ("test_ds", (None, "", MISSING))):
        values = model.take(key, None) or {}
        if any(values.get(place) not in unset for place in datasets.PLACES):
            found[key] = datasets.read_sets(values, key, locate, report)
    return found


def _read_optim(model: NemoSection, run_length: int | None, report: Report) -> dict[str, Any]:
    groups = model.take("optim_param_groups", None) or {}
    names = _TRANSDUCER_PARTS if "joint" in model else _PARTS_OF_MODELS
    optim = read_optim(model.section("optim"), run_length, report)
    if groups:
        optim["groups"] = [{"match": [names.get(part, part)], **(options or {})} for part, options in groups.items()]
    return {"optim": optim}


def _init(whole: NemoSection, model: NemoSection, locate: datasets.Locate, report: Report) -> dict[str, Any]:
    """Where weights come from. Of several checkpoints, each for some parts, the first is taken, and the rest said."""
    for section, key in ((section, key) for section in (whole, model) for key in _INITS):
        value = section.take(key, None)
        if not value:
            continue
        name, *others = list(value.values()) if isinstance(value, Mapping) else [value]
        options = name if isinstance(name, Mapping) else {"path": name}
        source = options.get("path") or options.get("name")
        fresh = ["decoder" if part == "joint" else part for part in options.get("exclude") or [] if part in _PARTS]
        ignored = {
            k: v for k, v in options.items() if k not in ("path", "name", "exclude") or (k == "exclude" and len(v) > len(fresh))
        }
        if ignored or others:
            report.change(key, f"{shown([ignored, *others])} is left out; init has fresh and freeze for parts")
        source = locate(str(source)) if key == _INITS[0] else source
        return {"init": {"from": source} | ({"fresh": list(dict.fromkeys(fresh))} if fresh else {})}
    return {}


def _numbers(value: Any) -> Any:
    """Numbers as `1e-3`, which YAML 1.1 reads as text and NeMo as numbers."""
    if isinstance(value, Mapping):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value


def _missing(value: Any, path: str = "") -> list[str]:
    """The paths of what is still to be filled in."""
    if isinstance(value, Mapping):
        return [found for key, item in value.items() for found in _missing(item, f"{path}.{key}".lstrip("."))]
    if isinstance(value, list):
        return [found for position, item in enumerate(value) for found in _missing(item, f"{path}[{position}]")]
    return [path] if value == MISSING else []


def _filled_in(value: Any, key: str = "") -> Any:
    """The config with something in the places that are still to be filled in, so that all else can be checked."""
    if isinstance(value, Mapping):
        return {name: _filled_in(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_filled_in(item) for item in value]
    return _STAND_INS.get(key, "missing") if value == MISSING else value
