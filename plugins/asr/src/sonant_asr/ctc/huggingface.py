"""The head of Hugging Face's `ParakeetForCTC`, and back."""

from __future__ import annotations

from typing import Any

from sonant.mapping import ComponentMapping, ForeignSection, Rename
from sonant_asr.ctc.config import CtcConfig


def read(section: ForeignSection) -> dict[str, Any]:
    """Nothing to configure; how the loss is summed up matters in training only."""
    section.drop("ctc_loss_reduction", "ctc_zero_infinity")
    return {}


def write(config: CtcConfig) -> dict[str, Any]:
    """Nothing to configure."""
    return {}


MAPPING = ComponentMapping(read=read, write=write, tensors=(Rename("ctc_head.{}", "out.{}", "conv1x1"),))
