"""Waveform to log-mel features, with the numbers NeMo 3.0 computes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sonant import lengths
from sonant_features.log_mel.config import LogMelConfig
from sonant_features.log_mel.mel import filterbank

_STD_FLOOR = 1e-5  # added to the standard deviation, not inside the square root


class LogMel(nn.Module):
    """Log-mel features.

    Pre-emphasis, short-time Fourier transform, power, mel filters, logarithm, normalization. Everything is computed in
    float32 whatever the model's dtype, and nothing beyond a recording's length enters its result.

    The window and the filters are buffers of the state dict, so that a checkpoint's own are used.
    """

    float32_only = True

    window: Tensor
    filters: Tensor

    def __init__(self, config: LogMelConfig) -> None:
        super().__init__()
        self.config = config
        self.sample_rate = config.sample_rate
        self.frame_rate = config.sample_rate / config.hop_length
        self.d_out = config.features * config.frame_splicing
        self.register_buffer("window", _window(config))
        high = config.highfreq or config.sample_rate / 2
        filters = filterbank(
            config.sample_rate, config.fft_length, config.features, config.lowfreq, high, config.mel_norm == "slaney"
        )
        self.register_buffer("filters", torch.tensor(filters))

    def forward(self, wav: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, N)` samples in [-1, 1], `(B,)` to features `(B, T, F)` float32, `(B,)`."""
        with torch.no_grad(), torch.autocast(wav.device.type, enabled=False):
            wav, config = wav.float(), self.config
            if config.preemph is None:
                wav = wav.masked_fill(~lengths.mask(lens, wav.shape[1]), 0.0)
            short = max(0, config.fft_length - 2 * self._edge - wav.shape[1])  # the transform wants one whole frame
            wav = functional.pad(wav, (self._edge, self._edge + short) if config.exact_pad else (0, short))
            if self.training and config.dither > 0:
                wav = wav + config.dither * torch.randn_like(wav)
            feats = self._log_mel(self._emphasize(wav, lens))
            frames = self.frames(lens)
            mask = lengths.mask(frames, feats.shape[1]).unsqueeze(-1)
            feats = self._normalize(feats, frames, mask).masked_fill(~mask, config.pad_value)
            if self.training and config.pad_to > 0:
                feats = functional.pad(feats, (0, 0, 0, -feats.shape[1] % config.pad_to), value=config.pad_value)
            return feats, frames

    @property
    def _edge(self) -> int:
        """Zeros before the first sample and behind the last."""
        config = self.config
        return (config.fft_length - config.hop_length) // 2 if config.exact_pad else config.fft_length // 2

    def frames(self, lens: Tensor) -> Tensor:
        """How many frames so many samples give."""
        count = torch.div(lens + 2 * self._edge - self.config.fft_length, self.config.hop_length, rounding_mode="floor")
        return count.clamp(min=0).to(torch.int64).masked_fill(lens == 0, 0)

    def _emphasize(self, wav: Tensor, lens: Tensor) -> Tensor:
        if self.config.preemph is None:
            return wav
        wav = torch.cat([wav[:, :1], wav[:, 1:] - self.config.preemph * wav[:, :-1]], dim=1)
        # With exact_pad this silences the last samples too, for the padding before the first one is not counted: so does NeMo.
        return wav.masked_fill(~lengths.mask(lens, wav.shape[1]), 0.0)

    def _log_mel(self, wav: Tensor) -> Tensor:
        config = self.config
        spectrum = torch.stft(
            wav,
            config.fft_length,
            hop_length=config.hop_length,
            win_length=config.window_length,
            window=self.window.float(),
            center=not config.exact_pad,
            pad_mode="constant",
            return_complex=True,
        )
        power = torch.view_as_real(spectrum).square().sum(-1).transpose(1, 2)  # (B, T, bins)
        if self.training and config.nb_augmentation_prob > 0:
            power = self._narrow_band(power)
        if config.mag_power != 2.0:
            power = power.pow(config.mag_power / 2)
        mel = power @ self.filters.float().T
        if config.log:
            guard = config.log_zero_guard_value
            floor = getattr(torch.finfo(torch.float32), guard) if isinstance(guard, str) else guard
            mel = torch.log(mel + floor if config.log_zero_guard_type == "add" else mel.clamp(min=floor))
        return mel.repeat(1, 1, config.frame_splicing) if config.frame_splicing > 1 else mel

    def _narrow_band(self, power: Tensor) -> Tensor:
        """Silence everything above `nb_max_freq` in some of the recordings: telephone speech for free."""
        first = int(self.config.nb_max_freq / self.config.sample_rate * self.config.fft_length)
        chosen = torch.rand(power.shape[0], 1, 1, device=power.device) < self.config.nb_augmentation_prob
        above = torch.arange(power.shape[2], device=power.device) >= first
        return power.masked_fill(chosen & above, 0.0)

    def _normalize(self, feats: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        if self.config.normalize == "none":
            return feats
        if self.config.normalize == "fixed":
            assert self.config.fixed is not None
            return (feats - feats.new_tensor(self.config.fixed.mean)) / feats.new_tensor(self.config.fixed.std)
        axes = (1,) if self.config.normalize == "per_feature" else (1, 2)
        count = frames[:, None, None] * (1 if len(axes) == 1 else feats.shape[2])
        mean = torch.where(mask, feats, 0.0).sum(axes, keepdim=True) / count
        variance = torch.where(mask, feats - mean, 0.0).square().sum(axes, keepdim=True) / (count - 1)
        return (feats - mean) / (variance.sqrt().nan_to_num(0.0) + _STD_FLOOR)


def _window(config: LogMelConfig) -> Tensor:
    """The symmetric window. By numpy: torch's own, on the `meta` device that checkpoints are opened on, imports its compiler."""
    if config.window == "none":
        return torch.ones(config.window_length)
    function = np.hanning if config.window == "hann" else getattr(np, config.window)
    return torch.tensor(function(config.window_length), dtype=torch.float32)
