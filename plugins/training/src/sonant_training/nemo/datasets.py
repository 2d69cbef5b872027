"""NeMo's `train_ds`, `validation_ds` and `test_ds` as ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from sonant.errors import CheckpointError
from sonant.nemo import NemoSection
from sonant_training.nemo import idle
from sonant_training.nemo.report import MISSING, Report

Locate = Callable[[str], str]
"""From a file's name in the old config to its name in the new one, which may lie elsewhere."""

PLACES = ("manifest_filepath", "tarred_audio_filepaths", "shar_path", "cuts_path", "input_cfg")
"""The keys that say where examples come from."""
_SAME = ("max_duration", "quadratic_duration", "batch_duration", "bucket_duration_bins", "bucket_batch_size", "max_tokens")


def read_sets(values: Mapping[str, Any], path: str, locate: Locate, report: Report) -> dict[str, Any]:
    """`validation_ds` or `test_ds`: one set, or where NeMo has a list of manifests several, by the names of the files."""
    manifests = _names(values.get("manifest_filepath"))
    if len(manifests) < 2 or values.get("tarred_audio_filepaths"):
        return read_set(values, path, locate, report, training=False)
    found: dict[str, Any] = {}
    for manifest in manifests:
        name = PurePath(manifest).stem
        name = name if name not in found else f"{name}_{len(found)}"
        quiet = report if not found else Report()  # what is said of one is true of all
        found[name] = read_set({**values, "manifest_filepath": manifest}, path, locate, quiet, training=False)
    return found


def read_set(values: Mapping[str, Any], path: str, locate: Locate, report: Report, *, training: bool = True) -> dict[str, Any]:
    """One set of examples."""
    section = NemoSection(values, path)
    found = _places(section, locate)
    if section.peek("input_cfg"):
        found["input_cfg"] = _sources(section, locate, report)
    if not found:
        found["manifest_filepath"] = MISSING
    section.drop(*PLACES)
    text = section.peek("text_field")
    found |= {"text_field": text} if text not in (None, "text") else {}
    found |= _limits(section)
    found |= _batches(section, report, training)
    if training:
        found["shuffle"] = bool(section.take("shuffle", True))
        found |= _perturb(section, locate, report)
    section.drop("shuffle")
    if section.peek("num_workers") is not None:
        found["num_workers"] = section.take("num_workers")
    report.close(section, idle.DATA)
    return found


def _places(section: NemoSection, locate: Locate) -> dict[str, Any]:
    found = {}
    for key in PLACES[:-1]:
        names = [_braces(name) for name in _names(section.take(key, None))]
        if names:
            placed = [name if name == MISSING else locate(name) for name in names]
            found[key] = placed[0] if len(placed) == 1 else placed
    return found


def _names(value: Any) -> list[str]:
    """The files of a value: a text with commas, a list, or a list of lists as NeMo's buckets have."""
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [name.strip() for name in re.split(r",(?![^{}]*\})", value)]
    if isinstance(value, Sequence):
        return [name for item in value for name in _names(item)]
    raise CheckpointError(f"a data set has {value!r} where a file's name belongs")


def _braces(name: str) -> str:
    """`audio__OP_0..63_CL_.tar` to `audio_{0..63}.tar`."""
    name = re.sub(r"_OP_|[(<\[]", "{", name)
    return re.sub(r"_CL_|[)>\]]", "}", name)


def _sources(section: NemoSection, locate: Locate, report: Report) -> list[dict[str, Any]]:
    listed = section.take("input_cfg")
    if not isinstance(listed, list):
        raise CheckpointError(f"{section.path}.input_cfg is {listed!r}: write the list of sources in place of its file's name")
    found = _flat_sources(listed, f"{section.path}.input_cfg", locate, report)
    if [source for source in found if source.pop("weight") != 1]:
        what = "weights are left out: there they are shares of all batches, and here they repeat a source's examples"
        report.change(f"{section.path}.input_cfg", what)
    return found


def _flat_sources(listed: Sequence[Any], path: str, locate: Locate, report: Report) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for position, item in enumerate(listed):
        one = NemoSection(item, f"{path}[{position}]")
        if isinstance(one.peek("input_cfg"), list):
            found += _flat_sources(one.take("input_cfg"), f"{one.path}.input_cfg", locate, report)
            continue
        places = _places(one, locate)
        tags = one.take("tags", None) or {}
        lang = tags.get("lang") or tags.get("source_lang")
        found.append(places | ({"lang": lang} if lang else {}) | {"weight": one.take("weight", 1)})
        report.close(one, idle.DATA | {"type"})
    return found


def _limits(section: NemoSection) -> dict[str, Any]:
    found = {key: section.take(key) for key in _SAME if section.peek(key) is not None}
    if found.get("max_duration") == float("inf"):
        del found["max_duration"]
    shortest = section.take("min_duration", None)
    found |= {"min_duration": shortest} if shortest is not None and shortest >= 0 else {}
    channel = section.take("channel_selector", None)
    return found | ({"channel": channel} if isinstance(channel, int) else {})


def _batches(section: NemoSection, report: Report, training: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    sizes = section.take("bucketing_batch_size", None)
    if sizes is not None:
        report.change(f"{section.path}.bucketing_batch_size", f"{sizes} is left out; batch_duration makes batches of like size")
    if section.peek("batch_size") is not None and section.peek("bucket_batch_size") is None:
        found["batch_size"] = section.take("batch_size")
    section.drop("batch_size", *_SAME)
    buckets = section.take("num_buckets", 30)
    if section.take("use_bucketing", False):
        found["num_buckets"] = buckets
    elif training:
        found["num_buckets"] = 1  # NeMo's batches mix all durations there
    return found


def _perturb(section: NemoSection, locate: Locate, report: Report) -> dict[str, Any]:
    """What NeMo does to the waveforms: keys of lhotse's loader, and the older `augmentor`."""
    found: dict[str, Any] = {}
    if section.take("perturb_speed", False):
        found["speed"] = [0.9, 1.0, 1.1]
    noise = section.take("noise_path", None)
    if noise is not None:
        name = noise.get("manifest_filepath") if isinstance(noise, Mapping) else noise
        snr = list(section.take("noise_snr", None) or (10.0, 20.0))
        found["noise"] = {"manifest_filepath": locate(str(name)), "prob": section.take("noise_mix_prob", 0.5), "snr_db": snr}
    for name, options in (section.take("augmentor", None) or {}).items():
        path = f"{section.path}.augmentor.{name}"
        ours = _AUGMENTOR.get(name)
        if ours is None:
            report.change(path, "is left out: train_ds.perturb has no such thing")
        else:
            found |= ours(NemoSection(options, path), locate, report)
    return {"perturb": found} if found else {}


def _span(section: NemoSection, low: str, high: str, default: tuple[float, float]) -> list[float]:
    return [float(section.take(low, default[0])), float(section.take(high, default[1]))]


def _white_noise(section: NemoSection, _: Locate, __: Report) -> dict[str, Any]:
    return {"white_noise": {"prob": section.take("prob", 0.5), "level_db": _span(section, "min_level", "max_level", (-90, -46))}}


def _shift(section: NemoSection, _: Locate, __: Report) -> dict[str, Any]:
    return {"shift": {"prob": section.take("prob", 0.5), "shift_ms": _span(section, "min_shift_ms", "max_shift_ms", (-5, 5))}}


def _noise(section: NemoSection, locate: Locate, _: Report) -> dict[str, Any]:
    manifest, span = locate(str(section.take("manifest_path"))), _span(section, "min_snr_db", "max_snr_db", (10, 50))
    return {"noise": {"manifest_filepath": manifest, "prob": section.take("prob", 0.5), "snr_db": span}}


def _impulse(section: NemoSection, locate: Locate, _: Report) -> dict[str, Any]:
    return {"rir": {"manifest_filepath": locate(str(section.take("manifest_path"))), "prob": section.take("prob", 0.5)}}


def _gain(section: NemoSection, _: Locate, report: Report) -> dict[str, Any]:
    _always(section, report)
    return {"volume_db": _span(section, "min_gain_dbfs", "max_gain_dbfs", (-10, 10))}


def _speed(section: NemoSection, _: Locate, report: Report) -> dict[str, Any]:
    _always(section, report)
    low, high = _span(section, "min_speed_rate", "max_speed_rate", (0.9, 1.1))
    count = max(2, int(section.take("num_rates", 5) or 5))
    return {"speed": [round(low + (high - low) * i / (count - 1), 4) for i in range(count)]}


def _always(section: NemoSection, report: Report) -> None:
    prob = section.take("prob", 0.5)
    if prob != 1.0:
        report.change(section.path, f"happens to every example, not to {prob:.0%} of them")


_AUGMENTOR = {"white_noise": _white_noise, "shift": _shift, "noise": _noise, "impulse": _impulse, "gain": _gain, "speed": _speed}
