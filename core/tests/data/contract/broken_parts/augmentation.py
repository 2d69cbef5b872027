"""Augmentations that each break one promise."""

from __future__ import annotations

from good_parts.augmentation import Mask


class Always(Mask):
    def forward(self, feats, lens):
        return feats * 0.5


class Shortens(Mask):
    def forward(self, feats, lens):
        return feats[:, 5:] if self.training else feats


class Never(Mask):
    def forward(self, feats, lens):
        return feats


class WritesInTraining(Mask):
    def forward(self, feats, lens):
        return feats.mul_(0.5) if self.training else feats
