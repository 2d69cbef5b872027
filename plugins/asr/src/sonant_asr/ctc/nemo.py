"""NeMo's `ConvASRDecoder` as a CTC head, and back."""

from __future__ import annotations

from typing import Any

from sonant.nemo import ComponentMapping, NemoSection, Rename
from sonant_asr.ctc.config import CtcConfig


def read(section: NemoSection) -> dict[str, Any]:
    """NeMo's section to ours."""
    section.expect("add_blank", True)
    section.drop("feat_in", "num_classes", "vocabulary", "init_mode")
    return {}


def write(config: CtcConfig, d_in: int, vocabulary: list[str]) -> dict[str, Any]:
    """Our config to NeMo's section."""
    return {
        "_target_": "nemo.collections.asr.modules.ConvASRDecoder",
        "feat_in": d_in,
        "num_classes": len(vocabulary),
        "vocabulary": vocabulary,
    }


MAPPING = ComponentMapping(read=read, write=write, tensors=(Rename("decoder_layers.0.{}", "out.{}", "conv1x1"),))
