"""The log-mel features of Hugging Face's Parakeet, and back. Their filters and window follow from the config."""

from __future__ import annotations

from typing import Any

from sonant.errors import CheckpointError
from sonant.mapping import ComponentMapping, ForeignSection
from sonant.weights import State
from sonant_features.log_mel.config import LogMelConfig
from sonant_features.log_mel.model import LogMel

_TYPE = "ParakeetFeatureExtractor"
_STREAMING_TYPE = "NemotronAsrStreamingFeatureExtractor"  # the same without normalization
_FIXED = {  # what that class always computes
    "window": "hann",
    "lowfreq": 0.0,
    "highfreq": None,
    "mel_norm": "slaney",
    "mag_power": 2.0,
    "log": True,
    "log_zero_guard_type": "add",
    "log_zero_guard_value": 2.0**-24,
    "normalize": "per_feature",
    "pad_value": 0.0,
    "exact_pad": False,
    "frame_splicing": 1,
}


def read(section: ForeignSection) -> dict[str, Any]:
    """The settings of the feature extractor to ours."""
    rate = section.take("sampling_rate", 16000)
    section.expect("padding_value", 0.0)
    section.expect("padding_side", "right")
    section.expect("mel_filters_dtype", "float32")
    section.take("return_attention_mask", None)
    is_normalized = section.take("feature_extractor_type", _TYPE) != _STREAMING_TYPE
    return _FIXED | {
        "normalize": "per_feature" if is_normalized else "none",
        "sample_rate": rate,
        "features": section.take("feature_size", 80),
        "n_fft": section.take("n_fft", 512),
        # half a sample more, so that int() gives the count back
        "window_size": (section.take("win_length", 400) + 0.5) / rate,
        "window_stride": (section.take("hop_length", 160) + 0.5) / rate,
        "preemph": section.take("preemphasis", 0.97),
        "dither": 0.0,
    }


def write(config: LogMelConfig) -> dict[str, Any]:
    """Our config to the settings of the feature extractor.

    Raises:
        CheckpointError: it does not compute these features.
    """
    unlike = [f"{key}: {getattr(config, key)}" for key, value in _FIXED.items() if getattr(config, key) != value]
    if config.highfreq == config.sample_rate / 2:
        unlike = [fault for fault in unlike if not fault.startswith("highfreq")]
    if unlike:
        raise CheckpointError(f"{_TYPE} does not compute log_mel with {', '.join(unlike)}")
    return {
        "feature_extractor_type": _TYPE,
        "feature_size": config.features,
        "hop_length": config.hop_length,
        "n_fft": config.fft_length,
        "padding_side": "right",
        "padding_value": 0.0,
        "preemphasis": config.preemph,
        "return_attention_mask": True,
        "sampling_rate": config.sample_rate,
        "win_length": config.window_length,
    }


def derived(config: LogMelConfig) -> State:
    """Window and filters."""
    return dict(LogMel(config).state_dict())


MAPPING = ComponentMapping(read=read, write=write, derived=derived)
