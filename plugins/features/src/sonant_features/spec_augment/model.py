"""SpecAugment: Park et al., "SpecAugment: A Simple Data Augmentation Method for ASR", Interspeech 2019.

And Cutout: DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sonant_features.spec_augment.config import SpecAugmentConfig


class SpecAugment(nn.Module):
    """Masks random bands of frequency, stretches of time, and rectangles in training mode; the identity otherwise."""

    def __init__(self, config: SpecAugmentConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, feats: Tensor, lens: Tensor) -> Tensor:
        """`(B, T, F)`, `(B,)` to `(B, T, F)`."""
        if not self.training:
            return feats
        config = self.config
        if config.rect_masks:
            feats = feats.masked_fill(self._rectangles(feats, lens), 0.0)
        size = torch.full_like(lens, feats.shape[2])
        bands = _masked(feats.shape[2], size, torch.full_like(lens, config.freq_width), config.freq_masks)
        longest = lens * config.time_width if isinstance(config.time_width, float) else torch.full_like(lens, config.time_width)
        stretches = _masked(feats.shape[1], lens, longest, config.time_masks)
        return feats.masked_fill(bands[:, None, :] | stretches[:, :, None], config.mask_value)

    def _rectangles(self, feats: Tensor, lens: Tensor) -> Tensor:
        """`(B, T, F)`, true where any rectangle falls: sides from 0 to the widest, placed so that the widest would fit."""
        config = self.config
        size = torch.full_like(lens, feats.shape[2])
        times = _sides(feats.shape[1], lens, config.rect_time, config.rect_masks)
        bands = _sides(feats.shape[2], size, config.rect_freq, config.rect_masks)
        return torch.bmm(times.float().transpose(1, 2), bands.float()) > 0  # (B, T, R) and (B, R, F)


def _masked(positions: int, size: Tensor, widest: Tensor, count: int) -> Tensor:
    """`(B, positions)`, true where any of `count` intervals falls: widths uniform below `widest`, starts within `size`."""
    shape = (len(size), count)
    width = (torch.rand(shape, device=size.device) * widest[:, None]).long().minimum(size[:, None])
    start = (torch.rand(shape, device=size.device) * (size[:, None] - width)).long()
    at = torch.arange(positions, device=size.device)
    return ((at >= start[..., None]) & (at < (start + width)[..., None])).any(dim=1)


def _sides(positions: int, size: Tensor, widest: int, count: int) -> Tensor:
    """`(B, count, positions)`, true within each of `count` intervals: widths 0 to `widest`, starts 0 to `size - widest`."""
    width = torch.randint(widest + 1, (len(size), count), device=size.device)
    room = (size - widest).clamp(min=0)[:, None]
    start = (torch.rand((len(size), count), device=size.device) * (room + 1)).long()
    at = torch.arange(positions, device=size.device)
    return (at >= start[..., None]) & (at < (start + width).minimum(size[:, None])[..., None])
