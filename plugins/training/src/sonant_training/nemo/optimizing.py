"""NeMo's `optim`, with its `sched`, as ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sonant.errors import CheckpointError
from sonant.nemo import NemoSection
from sonant_training.nemo import idle
from sonant_training.nemo.report import Report

_OPTIMIZERS = frozenset(
    {"adamw", "adam", "sgd", "adadelta", "adamax", "adagrad", "rmsprop", "radam", "nadam", "novograd", "adafactor", "adan"}
)
_ALSO = {"fused_adam": "adamw", "fusedadam": "adamw"}  # Apex's, which decouples weight decay unless told otherwise
_WARMUP = ("warmup_steps", "warmup_ratio")
_HOLD = (*_WARMUP, "hold_steps", "hold_ratio")
_SCHEDULERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "WarmupPolicy": ("constant", _WARMUP),
    "WarmupHoldPolicy": ("constant", _WARMUP),
    "NoamAnnealing": ("noam", ("d_model", *_WARMUP, "min_lr")),
    "NoamHoldAnnealing": ("noam_hold", (*_HOLD, "decay_rate", "min_lr")),
    "CosineAnnealing": ("cosine", (*_WARMUP, "constant_steps", "constant_ratio", "min_lr")),
    "WarmupAnnealing": ("linear", (*_WARMUP, "min_lr")),
    "WarmupHoldAnnealLinear": ("linear", (*_HOLD, "min_lr")),
    "WarmupHoldAnnealOneMinusSquareRoot": ("one_minus_sqrt", (*_HOLD, "min_lr")),
    "InverseSquareRootAnnealing": ("inverse_sqrt", (*_WARMUP, "min_lr")),
    "T5InverseSquareRootAnnealing": ("t5_inverse_sqrt", ("constant_steps", "constant_ratio", "min_lr")),
    "PolynomialDecayAnnealing": ("polynomial", (*_WARMUP, "power", "min_lr")),
    "PolynomialHoldDecayAnnealing": ("polynomial", (*_HOLD, "power", "min_lr")),
    "SquareAnnealing": ("square", (*_WARMUP, "min_lr")),
    "SquareRootAnnealing": ("square_root", (*_WARMUP, "min_lr")),
    "StepLR": ("step", ("step_size", "gamma")),
}
_REFUSED = {
    "ExponentialLR": "NeMo steps it once an epoch, and here everything counts steps: use exponential with gamma ** (1 / steps)",
    "ReduceLROnPlateau": "schedules here follow from the step alone: use cosine or noam",
    "CyclicLR": "NeMo's also cycles the momentum: use cyclic",
}


def read_optim(section: NemoSection, run_length: int | None, report: Report) -> dict[str, Any]:
    """The section `optim`. `run_length` is `trainer.max_steps`, which NeMo prefers to a schedule's own, where it is set.

    Raises:
        CheckpointError: an optimizer or a scheduler has no counterpart.
    """
    flat = _flat(section)
    sched = flat.take("sched", None)
    target = str(flat.take("_target_", None) or "").rsplit(".", 1)[-1].lower()
    name = str(target or flat.take("name", None) or "adam")
    name = _ALSO.get(name, name)
    if name not in _OPTIMIZERS:
        known = ", ".join(sorted(_OPTIMIZERS))
        raise CheckpointError(f"optim.name is {name!r}, which has no counterpart here; of NeMo's there are {known}")
    flat.take("name", None)
    values: dict[str, Any] = {"name": name}
    if name == "adafactor":
        values |= _adafactor(flat, report)
    if float(flat.take("max_grad_norm", None) or 0):
        report.change("optim.max_grad_norm", "is left out; set trainer.gradient_clip_val")
    for key in flat.keys():  # noqa: SIM118 (it is no mapping)
        if key not in idle.OPTIMIZER and flat.peek(key) is not None:
            values[key] = flat.take(key)
    report.close(flat, idle.OPTIMIZER)
    if sched:
        values["sched"] = _sched(_flat(NemoSection(sched, "optim.sched")), run_length, values, report)
    return values


def _flat(section: NemoSection) -> NemoSection:
    """The form of before 2021, `args: {name: auto, params: {…}}`, with the parameters beside the name."""
    args = section.take("args", None) or {}
    params = args.get("params") or {key: value for key, value in args.items() if key != "name"}
    values = {key: section.take(key) for key in section.keys()}  # noqa: SIM118
    return NemoSection(values | dict(params), section.path)


def _adafactor(section: NemoSection, report: Report) -> dict[str, Any]:
    relative, scaled = section.take("relative_step", True), section.take("scale_parameter", True)
    if scaled and not relative:
        report.change("optim.scale_parameter", "NeMo multiplies the scales of tensor after tensor; here each has its own")
    lr = section.take("lr", None)
    return {"lr": 1.0 if lr is None else lr, "relative_step": relative, "scale_parameter": scaled}


def _sched(section: NemoSection, run_length: int | None, optim: dict[str, Any], report: Report) -> dict[str, Any]:
    name = str(section.take("name", None)).removesuffix("Params")
    if name not in _SCHEDULERS:
        reason = _REFUSED.get(name, f"of NeMo's there are {', '.join(sorted(_SCHEDULERS))}")
        raise CheckpointError(f"optim.sched.name is {name!r}, which has no counterpart here: {reason}")
    ours, keys = _SCHEDULERS[name]
    values = {"name": ours} | {key: section.take(key) for key in keys if section.peek(key) is not None}
    own = section.take("max_steps", None)
    if own is not None and own != -1 and run_length is None and "max_steps" in _keys_of(ours):
        values["max_steps"] = own
    if ours == "t5_inverse_sqrt":
        optim["lr"] = 1.0  # NeMo's has no other
    if ours == "constant" and section.take("min_lr", None):
        report.change("optim.sched.min_lr", "is left out: the learning rate is held, also after the last step")
    section.drop("hold_steps", "hold_ratio", "min_lr") if ours == "constant" else None
    report.close(section, idle.SCHEDULER)
    return values


def _keys_of(scheduler: str) -> set[str]:
    import attrs

    from sonant.config import config_class
    from sonant.registry import current

    return {field.name for field in attrs.fields(config_class(current().get("scheduler", scheduler)))}
