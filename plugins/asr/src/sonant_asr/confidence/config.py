"""Config of confidence."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen


def _help(text: str) -> dict[str, str]:
    return {"help": text}


@frozen(kw_only=True)
class ConfidenceConfig:
    """How sure a head is of what was found: per frame, and from there per token and word. Fields and defaults follow NeMo's."""

    method: Literal["entropy", "max_prob"] = field(
        default="entropy",
        metadata=_help("of a frame: how far its labels are from equally likely, or the likeliest label's probability"),
    )
    entropy_type: Literal["tsallis", "gibbs", "renyi"] = field(default="tsallis", metadata=_help("which entropy"))
    alpha: float = field(
        default=0.33, metadata=_help("power of the probabilities; below 1 it makes up for heads that are too sure")
    )
    entropy_norm: Literal["exp", "lin"] = field(default="exp", metadata=_help("from entropy to 0 … 1: exponentially or linearly"))
    aggregation: Literal["min", "mean", "max", "prod"] = field(
        default="min", metadata=_help("of a token's frames, and of a word's tokens, to one number")
    )
    exclude_blank: bool = field(default=True, metadata=_help("the blanks behind a token do not count for it"))
    tdt_include_duration: bool = field(default=False, metadata=_help("a frame of tdt also counts how sure its duration is"))

    def __attrs_post_init__(self) -> None:
        if not 0 < self.alpha < float("inf"):
            raise ValueError(f"alpha {self.alpha} must be a number above 0")
