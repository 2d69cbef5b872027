"""Log-mel configs to NeMo's form and back."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch

from sonant.config import fill
from sonant.errors import CheckpointError
from sonant.nemo import NemoSection
from sonant_features.log_mel.config import FixedStatistics, LogMelConfig
from sonant_features.log_mel.model import LogMel
from sonant_features.log_mel.nemo import MAPPING, read, write

FIXED = FixedStatistics(mean=[0.5] * 80, std=[2.0] * 80)

CONFIGS = [
    LogMelConfig(),
    *(LogMelConfig(normalize=value) for value in ("per_feature", "all_features", "none")),
    LogMelConfig(normalize="fixed", fixed=FIXED),
    *(
        LogMelConfig(log_zero_guard_type=kind, log_zero_guard_value=value)
        for kind, value in product(("add", "clamp"), (1e-5, "eps", "tiny"))
    ),
    *(LogMelConfig(window=window) for window in ("hann", "hamming", "blackman", "bartlett", "none")),
    *(LogMelConfig(sample_rate=rate, window_size=0.02, window_stride=0.0125, features=64) for rate in (8000, 22050, 44100)),
    LogMelConfig(n_fft=1024, lowfreq=20.0, highfreq=7600.0, mel_norm="none", preemph=None, mag_power=1.0, log=False),
    LogMelConfig(
        exact_pad=True, pad_to=16, pad_value=-1.0, frame_splicing=3, dither=0.0, nb_augmentation_prob=0.1, nb_max_freq=3500.0
    ),
]


def read_whole(values: dict[str, Any]) -> LogMelConfig:
    """The config of a NeMo section of which nothing is left over."""
    section = NemoSection({k: v for k, v in values.items() if k != "_target_"}, "preprocessor")
    ours = fill(LogMelConfig, read(section), "preprocessor")
    section.finish()
    return ours


@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
def test_what_is_written_reads_as_it_was(config: LogMelConfig) -> None:
    assert read_whole(write(config)) == config


def test_an_empty_section_means_nemos_defaults() -> None:
    config = read_whole({})
    assert (config.window_size, config.features, config.pad_to, config.normalize) == (0.02, 64, 16, "per_feature")


@pytest.mark.parametrize(
    ("value", "expected"),
    [("NA", "none"), (None, "none"), ("", "none"), ("per_feature", "per_feature"), ("all_features", "all_features")],
)
def test_normalizations(value: Any, expected: str) -> None:
    assert read_whole({"normalize": value}).normalize == expected


def test_fixed_statistics() -> None:
    config = read_whole({"features": 2, "normalize": {"fixed_mean": [1.0, 2.0], "fixed_std": [3.0, 4.0]}})
    assert config.normalize == "fixed" and config.fixed == FixedStatistics(mean=[1.0, 2.0], std=[3.0, 4.0])


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("count", [1, 160, 512, 1003])  # 1003 / 8000 * 8000 is less than 1003
def test_sizes_in_samples_stay_exact(rate: int, count: int) -> None:
    config = read_whole(
        {"sample_rate": rate, "n_window_size": count, "n_window_stride": count, "window_size": None, "window_stride": None}
    )
    assert config.window_length == config.hop_length == count
    again = read_whole(write(config))
    assert again.window_length == again.hop_length == count


@pytest.mark.parametrize("pad_to", ["max", None, 0])
def test_padding_to_a_multiple_can_be_off(pad_to: Any) -> None:
    assert read_whole({"pad_to": pad_to}).pad_to == 0


def test_options_of_earlier_releases_are_reported_as_dropped() -> None:
    section = NemoSection({"stft_conv": True, "use_torchaudio": False, "max_duration": 16.7}, "preprocessor")
    read(section)
    assert section.finish() == ["preprocessor.stft_conv", "preprocessor.use_torchaudio", "preprocessor.max_duration"]


def test_an_unknown_option_is_an_error() -> None:
    with pytest.raises(CheckpointError, match=r"keys that Sonant does not know: preprocessor\.frobnicate"):
        read_whole({"frobnicate": 1})


def test_tensors_go_over_and_come_back() -> None:
    state = LogMel(LogMelConfig()).state_dict()
    assert isinstance(MAPPING.tensors, tuple)
    seen = set()
    for row in MAPPING.tensors:
        theirs = row.write(row.ours)
        assert theirs is not None and row.read(theirs) == row.ours
        stored = row.to_theirs(state[row.ours])
        assert torch.equal(row.to_ours(stored), state[row.ours])
        seen.add((theirs, tuple(stored.shape)))
    assert seen == {("featurizer.window", (400,)), ("featurizer.fb", (1, 80, 257))}
