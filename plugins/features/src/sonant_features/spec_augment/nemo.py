"""SpecAugment as NeMo writes it, and back."""

from __future__ import annotations

from typing import Any

import attrs

from sonant.nemo import ComponentMapping, NemoSection
from sonant_features.spec_augment.config import SpecAugmentConfig


def read(section: NemoSection) -> dict[str, Any]:
    """NeMo's section to ours."""
    section.drop("rng", "use_vectorized_spec_augment", "use_numba_spec_augment")
    return {f.name: section.take(f.name, f.default) for f in attrs.fields(SpecAugmentConfig)}


def write(config: SpecAugmentConfig) -> dict[str, Any]:
    """Our config to NeMo's section."""
    return {"_target_": "nemo.collections.asr.modules.SpectrogramAugmentation"} | attrs.asdict(config)


MAPPING = ComponentMapping(read=read, write=write)
