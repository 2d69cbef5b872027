"""Config of the log-mel preprocessor."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen


def _help(text: str) -> dict[str, str]:
    return {"help": text}


@frozen(kw_only=True)
class FixedStatistics:
    """Mean and standard deviation of each feature, measured beforehand."""

    mean: list[float]
    std: list[float]


@frozen(kw_only=True)
class LogMelConfig:
    """Names and defaults follow NeMo's `AudioToMelSpectrogramPreprocessor`, with the values its speech recognizers use."""

    sample_rate: int = field(default=16000, metadata=_help("Hz"))
    window_size: float = field(default=0.025, metadata=_help("seconds"))
    window_stride: float = field(default=0.01, metadata=_help("seconds from one frame to the next"))
    window: Literal["hann", "hamming", "blackman", "bartlett", "none"] = field(default="hann", metadata=_help("symmetric window"))
    n_fft: int | None = field(default=None, metadata=_help("points; none means the next power of two above the window"))
    features: int = field(default=80, metadata=_help("mel bands"))
    lowfreq: float = field(default=0.0, metadata=_help("Hz, lower edge of the first band"))
    highfreq: float | None = field(default=None, metadata=_help("Hz, upper edge of the last; none means half the sample rate"))
    mel_norm: Literal["slaney", "none"] = field(default="slaney", metadata=_help("'slaney' gives every band equal area"))
    preemph: float | None = field(default=0.97, metadata=_help("pre-emphasis coefficient; none turns it off"))
    mag_power: float = field(default=2.0, metadata=_help("exponent on the magnitude: 2 is power, 1 magnitude"))
    log: bool = field(default=True, metadata=_help("take the natural logarithm"))
    log_zero_guard_type: Literal["add", "clamp"] = field(default="add", metadata=_help("how zero is kept from the logarithm"))
    log_zero_guard_value: float | str = field(default=2.0**-24, metadata=_help("a number, or 'tiny' or 'eps' of float32"))
    normalize: Literal["per_feature", "all_features", "fixed", "none"] = field(
        default="per_feature", metadata=_help("to zero mean and unit variance over the valid frames of each recording")
    )
    fixed: FixedStatistics | None = field(default=None, metadata=_help("the statistics for normalize: fixed"))
    pad_to: int = field(default=0, metadata=_help("in training, round the number of frames up to a multiple of this; 0: do not"))
    pad_value: float = field(default=0.0, metadata=_help("what frames beyond the length hold"))
    exact_pad: bool = field(default=False, metadata=_help("pad by (n_fft - hop) / 2, as vocoders expect, instead of n_fft / 2"))
    frame_splicing: int = field(default=1, metadata=_help("repeat the features this many times (NeMo's frame splicing)"))
    dither: float = field(default=1e-5, metadata=_help("standard deviation of the noise added in training"))
    nb_augmentation_prob: float = field(default=0.0, metadata=_help("in training, how often to silence all above nb_max_freq"))
    nb_max_freq: float = field(default=4000.0, metadata=_help("Hz"))

    def __attrs_post_init__(self) -> None:
        if self.n_fft is not None and self.n_fft < self.window_length:
            raise ValueError(f"n_fft {self.n_fft} is shorter than the window, {self.window_length} samples")
        if isinstance(self.log_zero_guard_value, str) and self.log_zero_guard_value not in ("tiny", "eps"):
            raise ValueError(f"log_zero_guard_value {self.log_zero_guard_value!r} is neither a number nor 'tiny' nor 'eps'")
        if self.normalize == "fixed" and (
            self.fixed is None or not len(self.fixed.mean) == len(self.fixed.std) == self.features * self.frame_splicing
        ):
            raise ValueError(
                f"normalize: fixed needs fixed.mean and fixed.std of {self.features * self.frame_splicing} numbers each"
            )
        if self.exact_pad and self.hop_length % 2:
            raise ValueError(f"exact_pad needs an even hop, and window_stride gives {self.hop_length} samples")
        if min(self.sample_rate, self.window_length, self.hop_length, self.features, self.frame_splicing) < 1:
            raise ValueError("sample_rate, window_size, window_stride, features and frame_splicing must be positive")

    @property
    def window_length(self) -> int:
        """In samples."""
        return int(self.window_size * self.sample_rate)

    @property
    def hop_length(self) -> int:
        """In samples."""
        return int(self.window_stride * self.sample_rate)

    @property
    def fft_length(self) -> int:
        """In samples."""
        return self.n_fft or 1 << (self.window_length - 1).bit_length()
