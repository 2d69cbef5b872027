"""Log-mel features as NeMo writes them, and back."""

from __future__ import annotations

from typing import Any

from sonant.nemo import ComponentMapping, NemoSection, Rename
from sonant_features.log_mel.config import LogMelConfig

_TARGET = "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor"
_SAME = {  # key in both: NeMo's default
    "sample_rate": 16000,
    "window": "hann",
    "n_fft": None,
    "preemph": 0.97,
    "features": 64,
    "lowfreq": 0,
    "highfreq": None,
    "log": True,
    "log_zero_guard_type": "add",
    "log_zero_guard_value": 2**-24,
    "dither": 1e-5,
    "frame_splicing": 1,
    "exact_pad": False,
    "pad_value": 0,
    "mag_power": 2.0,
    "nb_augmentation_prob": 0.0,
    "nb_max_freq": 4000,
}


def read(section: NemoSection) -> dict[str, Any]:
    """NeMo's section to ours."""
    values = {key: section.take(key, default) for key, default in _SAME.items()}
    values["window"] = values["window"] or "none"
    values["mel_norm"] = section.take("mel_norm", "slaney") or "none"
    rate = values["sample_rate"]
    for key, samples, default in (("window_size", "n_window_size", 0.02), ("window_stride", "n_window_stride", 0.01)):
        seconds, count = section.take(key, default), section.take(samples, None)
        values[key] = seconds if not count else (count + 0.5) / rate  # half a sample, so that int() gives the count back
    pad_to = section.take("pad_to", 16)
    values["pad_to"] = pad_to if isinstance(pad_to, int) else 0
    values.update(_normalization(section.take("normalize", "per_feature")))
    # Options of earlier releases that NeMo 3.0 takes and ignores.
    section.drop("stft_conv", "stft_exact_pad", "use_torchaudio", "max_duration", "rng", "use_grads")
    return values


def _normalization(value: Any) -> dict[str, Any]:
    if isinstance(value, dict) and {"fixed_mean", "fixed_std"} <= value.keys():
        return {"normalize": "fixed", "fixed": {"mean": value["fixed_mean"], "std": value["fixed_std"]}}
    return {"normalize": value if value in ("per_feature", "all_features") else "none"}


def write(config: LogMelConfig) -> dict[str, Any]:
    """Our config to NeMo's section."""
    values: dict[str, Any] = {"_target_": _TARGET, "sample_rate": config.sample_rate}
    values |= {"window_size": config.window_size, "window_stride": config.window_stride}
    values |= {key: getattr(config, key) for key in _SAME}
    values |= {"pad_to": config.pad_to, "mel_norm": None if config.mel_norm == "none" else config.mel_norm}
    values["normalize"] = {"none": "NA"}.get(config.normalize, config.normalize)
    if config.fixed is not None and config.normalize == "fixed":
        values["normalize"] = {"fixed_mean": config.fixed.mean, "fixed_std": config.fixed.std}
    return values


MAPPING = ComponentMapping(
    read=read,
    write=write,
    tensors=(Rename("featurizer.window", "window"), Rename("featurizer.fb", "filters", shape="batch")),
    ignored=("featurizer.stft.*",),
)
