"""Waveform to log-mel features, with the numbers NeMo 3.0 computes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sonant import lengths
from sonant_features.log_mel.config import LogMelConfig
from sonant_features.log_mel.mel import filterbank
from sonant_features.log_mel.streaming import StreamState

_STD_FLOOR = 1e-5  # added to the standard deviation, not inside the square root
_LONGEST_PIECE = 2**14  # frames, of all recordings of a batch together, whose spectra are computed at once


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
            feats = self._in_pieces(wav, lens) if self._is_long(wav) else self._at_once(wav, lens)
            frames = self.frames(lens)
            mask = lengths.mask(frames, feats.shape[1]).unsqueeze(-1)
            feats = self._normalize(feats, frames, mask).masked_fill_(~mask, config.pad_value)
            if self.training and config.pad_to > 0:
                feats = functional.pad(feats, (0, 0, 0, -feats.shape[1] % config.pad_to), value=config.pad_value)
            return feats, frames

    def _at_once(self, wav: Tensor, lens: Tensor) -> Tensor:
        """`(B, N)` samples, `(B,)` to `(B, T, F)` before normalization."""
        config = self.config
        if config.preemph is None:
            wav = wav.masked_fill(~lengths.mask(lens, wav.shape[1]), 0.0)
        short = max(0, config.fft_length - 2 * self._edge - wav.shape[1])  # the transform wants one whole frame
        wav = functional.pad(wav, (self._edge, self._edge + short) if config.exact_pad else (0, short))
        if self.training and config.dither > 0:
            wav = wav + config.dither * torch.randn_like(wav)
        return self._log_mel(self._emphasize(wav, lens), center=not config.exact_pad)

    def _is_long(self, wav: Tensor) -> bool:
        return not self.training and wav.numel() > _LONGEST_PIECE * self.config.hop_length

    def _in_pieces(self, wav: Tensor, lens: Tensor) -> Tensor:
        """`_at_once`, some frames after others: spectra are many times as large as the features that come of them."""
        config = self.config
        total = (wav.shape[1] + 2 * self._edge - config.fft_length) // config.hop_length + 1
        size = max(1, _LONGEST_PIECE // len(wav))
        feats = wav.new_empty(len(wav), total, self.d_out)
        for first in range(0, total, size):
            last = min(first + size, total)
            begin = first * config.hop_length - self._edge
            samples = self._emphasized(wav, lens, begin, begin + (last - 1 - first) * config.hop_length + config.fft_length)
            feats[:, first:last] = self._log_mel(samples, center=False)
        return feats

    def _emphasized(self, wav: Tensor, lens: Tensor, begin: int, end: int) -> Tensor:
        """The samples `[begin, end)` as `_emphasize` gives them, zeros beyond either end of the recording."""
        emphasis, count = self.config.preemph, wav.shape[1]
        valid = lens if emphasis is None or not self.config.exact_pad else lens - self._edge  # see `_emphasize`
        early = begin - 1  # one more, which pre-emphasis looks back at
        piece = wav[:, max(0, early) : min(end, count)]
        piece = functional.pad(piece, (max(0, -early), max(0, end - count)))
        now = piece[:, 1:] if emphasis is None else piece[:, 1:] - emphasis * piece[:, :-1]
        return now.masked_fill(~lengths.mask(valid - begin, end - begin), 0.0)

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

    def _log_mel(self, wav: Tensor, *, center: bool) -> Tensor:
        config = self.config
        spectrum = torch.stft(
            wav,
            config.fft_length,
            hop_length=config.hop_length,
            win_length=config.window_length,
            window=self.window.float(),
            center=center,
            pad_mode="constant",
            return_complex=True,
        )
        squares = torch.view_as_real(spectrum.transpose(1, 2)).square()
        power = squares[..., 0] + squares[..., 1]  # (B, T, bins); a sum over two elements takes five times as long
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
        pieces = list(zip(*(t.split(max(1, _LONGEST_PIECE // len(feats)), dim=1) for t in (feats, mask)), strict=True))
        mean = sum(torch.where(valid, f, 0.0).sum(axes, keepdim=True) for f, valid in pieces) / count
        squares = sum(torch.where(valid, f - mean, 0.0).square().sum(axes, keepdim=True) for f, valid in pieces)
        deviation = (squares / (count - 1)).sqrt().nan_to_num(0.0) + _STD_FLOOR
        for f, _ in pieces:
            f.sub_(mean).div_(deviation)
        return feats

    @property
    def streams(self) -> bool:
        """Whether a frame depends on the samples around it alone."""
        return self.config.normalize in ("none", "fixed") and not self.config.exact_pad

    def init_state(self) -> StreamState:
        """The state of a stream before its first sample.

        Raises:
            ValueError: this configuration does not stream.
        """
        if self.config.exact_pad:
            raise ValueError("these features do not stream: exact_pad: true silences the end of a recording")
        if not self.streams:
            raise ValueError(
                "these features do not stream: they are normalized over the whole recording "
                f"(normalize: {self.config.normalize}); a model that streams is trained with normalize: none or fixed"
            )
        zeros = self.filters.new_zeros(self._edge, dtype=torch.float32)
        return StreamState(zeros, zeros.new_zeros(1))

    def needs(self, state: StreamState, frames: int = 1) -> int:
        """How many more samples complete so many more frames, at least 1."""
        complete = (frames - 1) * self.config.hop_length + self._span - len(state.pending)
        counted = (state.frames + frames) * self.config.hop_length + self.config.fft_length - 2 * self._edge - state.samples
        return max(1, complete, counted)

    def step(
        self, wav: Tensor, lens: Tensor, states: Sequence[StreamState], *, last: Sequence[bool]
    ) -> tuple[Tensor, Tensor, list[StreamState]]:
        """Feed `(B, N)` more samples, `lens` of them valid, to a stream each; returns the frames `(B, T, F)` that are complete by
        now, their numbers `(B,)`, and the next states. `last` says which streams end here."""
        with torch.no_grad(), torch.autocast(wav.device.type, enabled=False):
            pieces = [row[:valid].float() for row, valid in zip(wav, lens.tolist(), strict=True)]
            fed = [state.fed(piece, self.config.preemph) for state, piece in zip(states, pieces, strict=True)]
            counts = [self._complete(state, ends) for state, ends in zip(fed, last, strict=True)]
            following = [state.given(count, self.config.hop_length) for state, count in zip(fed, counts, strict=True)]
            out = wav.new_full((len(fed), max(counts, default=0), self.d_out), self.config.pad_value, dtype=torch.float32)
            going = [n for n, count in enumerate(counts) if count]
            if going:
                frames = torch.tensor([counts[n] for n in going], device=wav.device)
                feats = self._log_mel(lengths.pad([self._windows(fed[n].pending, counts[n]) for n in going])[0], center=False)
                mask = lengths.mask(frames, feats.shape[1])[..., None]
                out[going] = self._normalize(feats, frames, mask).masked_fill(~mask, self.config.pad_value)
            return out, torch.tensor(counts, dtype=torch.int64, device=lens.device), following

    @property
    def _span(self) -> int:
        """Samples from the beginning of a frame until it is complete and the next one has begun."""
        return max(self.config.fft_length, self.config.hop_length)

    def _complete(self, state: StreamState, last: bool) -> int:
        """How many more frames the samples so far give."""
        due = int(self.frames(torch.tensor(state.samples))) - state.frames
        return due if last else max(0, min(due, (len(state.pending) - self._span) // self.config.hop_length + 1))

    def _windows(self, pending: Tensor, frames: int) -> Tensor:
        """As many samples as so many frames take, with silence behind the end."""
        size = (frames - 1) * self.config.hop_length + self.config.fft_length
        return functional.pad(pending[:size], (0, max(0, size - len(pending))))


def _window(config: LogMelConfig) -> Tensor:
    """The symmetric window. By numpy: torch's own, on the `meta` device that checkpoints are opened on, imports its compiler."""
    if config.window == "none":
        return torch.ones(config.window_length)
    function = np.hanning if config.window == "hann" else getattr(np, config.window)
    return torch.tensor(function(config.window_length), dtype=torch.float32)
