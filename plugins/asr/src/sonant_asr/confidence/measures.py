"""How sure a head is at a frame, from the probabilities of its labels; and several such numbers as one.

Laptev and Ginsburg, "Fast Entropy-Based Methods of Word-Level Confidence Estimation for End-to-End Automatic Speech Recognition",
2022. All measures are 0 where all labels are equally likely, and 1 where one is certain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

from sonant_asr.confidence.config import ConfidenceConfig


def measure(log_probs: Tensor, config: ConfidenceConfig, size: int | None = None) -> Tensor:
    """Log-probabilities `(…, V)` to confidence `(…)`.

    `size` is the number of labels that "equally likely" is reckoned with, `V` unless given.
    """
    log_probs = torch.nan_to_num(log_probs)  # 0 * log 0 is 0
    size = log_probs.shape[-1] if size is None else size
    if config.method == "max_prob":
        return ((config.alpha * log_probs.amax(-1)).exp() - size**-config.alpha) / (1 - size**-config.alpha)
    entropy, largest, scale = _ENTROPIES[config.entropy_type if config.alpha != 1 else "gibbs"](log_probs, config.alpha, size)
    if config.entropy_norm == "lin":
        return 1 - entropy / largest
    least = math.exp(-scale * largest)
    return ((-scale * entropy).exp() - least) / (1 - least)


def together(one: Tensor, other: Tensor, config: ConfidenceConfig) -> Tensor:
    """Two confidences of the same steps to one, as `config.aggregation` says."""
    return _TOGETHER[config.aggregation](torch.stack([one, other]))


def aggregate(values: Sequence[float], how: str) -> float:
    """At least one number to one: the `mean`, `min`, `max` or `prod` of them."""
    return _AGGREGATIONS[how](values)


_AGGREGATIONS: Final[dict[str, Callable[[Sequence[float]], float]]] = {
    "mean": lambda values: sum(values) / len(values),
    "min": min,
    "max": max,
    "prod": math.prod,
}
_TOGETHER: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "mean": lambda both: both.mean(0),
    "min": lambda both: both.amin(0),
    "max": lambda both: both.amax(0),
    "prod": lambda both: both.prod(0),
}
_Entropy = tuple[Tensor, float, float]
"""The entropy, its value where all labels are equally likely, and a factor in the exponential norm."""


def _gibbs(log_probs: Tensor, alpha: float, size: int) -> _Entropy:
    entropy = -((alpha * log_probs).exp() * log_probs).sum(-1)
    return entropy, size ** (1 - alpha) * math.log(size), alpha


def _tsallis(log_probs: Tensor, alpha: float, size: int) -> _Entropy:
    entropy = ((alpha * log_probs).exp().sum(-1) - 1) / (1 - alpha)
    return entropy, (size ** (1 - alpha) - 1) / (1 - alpha), 1.0


def _renyi(log_probs: Tensor, alpha: float, size: int) -> _Entropy:
    entropy = (alpha * log_probs).logsumexp(-1) / (1 - alpha)
    return entropy, math.log(size), 1.0


_ENTROPIES: Final[dict[str, Callable[[Tensor, float, int], _Entropy]]] = {"gibbs": _gibbs, "tsallis": _tsallis, "renyi": _renyi}
