"""What NeMo's models are trained by, as the sections `loss` and `aux_loss`."""

from __future__ import annotations

from typing import Any

from sonant.errors import CheckpointError
from sonant.nemo import NemoSection
from sonant_training.nemo.report import Report

_RNNT = {"default", "rnnt", "warprnnt", "warprnnt_numba", "naive", "pytorch", "graph_rnnt"}
_TDT = {"tdt", "tdt_pytorch"}
_SMOOTHED = "SmoothedCrossEntropyLoss"


def read_losses(model: NemoSection, head: dict[str, Any], report: Report) -> dict[str, Any]:
    """`loss`, and of a hybrid `aux_loss`, for a decoder section of ours.

    Raises:
        CheckpointError: a loss that has no counterpart.
    """
    section = NemoSection(model.take("loss", None) or {}, "loss")
    ctc, rnnt = model.take("ctc_reduction", None), model.take("rnnt_reduction", None)
    if head["name"] == "ctc":
        values = {"name": "ctc", "reduction": ctc or "mean_batch"}
    elif head["name"] == "aed":
        values = _read_cross_entropy(section, model, report)
    else:
        values = _read_transducer(section, head, report) | {"reduction": rnnt or "mean_batch"}
    report.close(section, frozenset({"loss_name", "warprnnt_numba_kwargs", "tdt_kwargs", "pad_id", "_target_"}))
    aux = model.peek("aux_ctc")
    found: dict[str, Any] = {"loss": values}
    if aux and head["name"] in ("rnnt", "tdt"):
        found["aux_loss"] = {"name": "ctc", "reduction": aux.get("ctc_reduction") or "mean_batch"}
    return found


def _read_transducer(section: NemoSection, head: dict[str, Any], report: Report) -> dict[str, Any]:
    name = section.take("loss_name", None) or "default"
    is_tdt = head["name"] == "tdt"
    if name not in (_TDT if is_tdt else _RNNT):
        supported = ", ".join(sorted(_TDT if is_tdt else _RNNT))
        raise CheckpointError(f"loss.loss_name is {name!r}, and of a {head['name']} head only {supported} is supported")
    key = "tdt_kwargs" if is_tdt else "warprnnt_numba_kwargs" if name in ("default", "warprnnt_numba") else f"{name}_kwargs"
    options = NemoSection(section.take(key, None) or {}, f"loss.{key}")
    values: dict[str, Any] = {"name": head["name"]}
    if options.peek("fastemit_lambda"):
        values["fastemit_lambda"] = options.take("fastemit_lambda")
    if is_tdt:
        values["durations"] = list(options.take("durations", None) or head["durations"])
        values |= {key: options.take(key) for key in ("sigma", "omega") if options.peek(key) is not None}
    if (options.take("clamp", None) or -1.0) > 0:
        report.change(f"loss.{key}.clamp", "is left out: gradients of the logits are not clamped; set trainer.gradient_clip_val")
    report.close(options, frozenset({"fastemit_lambda"}))
    return values


def _read_cross_entropy(section: NemoSection, model: NemoSection, report: Report) -> dict[str, Any]:
    target = str(section.take("_target_", _SMOOTHED))
    if not target.endswith(_SMOOTHED):
        raise CheckpointError(f"loss._target_ is {target!r}, which has no counterpart here; supported: {_SMOOTHED}")
    smoothing = section.take("label_smoothing", None)
    section.take("pad_id", None)
    return {"name": "cross_entropy", "label_smoothing": float(smoothing or model.peek("label_smoothing") or 0.0)}
