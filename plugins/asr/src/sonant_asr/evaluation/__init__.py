"""Error rates of recognized text, and a page to look at them."""

from __future__ import annotations

from sonant_asr.evaluation.scores import Pair, Scores, Utterance, evaluate

__all__ = ["Pair", "Scores", "Utterance", "evaluate"]
