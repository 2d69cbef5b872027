"""Configs of the CTC head and its searches."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen

from sonant_asr.beams.config import check_beam
from sonant_asr.confidence.config import ConfidenceConfig
from sonant_asr.fusion.config import FusionConfig


def _help(text: str) -> dict[str, str]:
    return {"help": text}


@frozen(kw_only=True)
class CtcConfig:
    """A linear layer has nothing to configure: its sizes follow from the encoder and the tokenizer."""


@frozen(kw_only=True)
class CtcGreedyConfig:
    """Greedy search."""

    fusion: FusionConfig = field(factory=FusionConfig, metadata=_help("a language model and phrases to listen to"))
    confidence: ConfidenceConfig | None = field(default=None, metadata=_help("how sure the head is, if that is wanted"))


@frozen(kw_only=True)
class CtcBeamConfig:
    """Prefix beam search. Field names and defaults follow NeMo's `beam_batch`."""

    beam_size: int = field(default=4, metadata=_help("hypotheses kept at every frame"))
    n_best: int = field(default=1, metadata=_help("hypotheses to give: the best, and as alternatives those that follow"))
    beam_threshold: float = field(
        default=20.0, metadata=_help("a hypothesis that is worse than the best by this much is dropped, in natural logarithms")
    )
    beam_beta: float = field(default=0.0, metadata=_help("added to the score for each label; above 0 favours longer texts"))
    merge: Literal["max", "sum"] = field(
        default="max", metadata=_help("what the alignments of one text count together: the best of them, or their sum")
    )
    fusion: FusionConfig = field(factory=FusionConfig, metadata=_help("a language model and phrases to listen to"))

    def __attrs_post_init__(self) -> None:
        check_beam(self.beam_size, self.n_best)
        if not self.beam_threshold > 0:
            raise ValueError(f"beam_threshold {self.beam_threshold} must be above 0")
