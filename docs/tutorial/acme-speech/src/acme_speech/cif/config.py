"""Configs of the decoder, its search and its loss."""

from __future__ import annotations

from attrs import field, frozen


@frozen(kw_only=True)
class CifConfig:
    """Continuous integrate-and-fire (Dong and Xu, 2020)."""

    kernel_size: int = field(default=3, metadata={"help": "frames that a frame's weight is read from, odd"})
    context_size: int = field(default=3, metadata={"help": "tokens that a token's label is read from, odd"})
    dropout: float = field(default=0.1, metadata={"help": "before the labels are scored"})

    def __attrs_post_init__(self) -> None:
        for name in ("kernel_size", "context_size"):
            if getattr(self, name) % 2 == 0:
                raise ValueError(f"{name} {getattr(self, name)} is even; it must be odd to have a middle")


@frozen(kw_only=True)
class CifGreedyConfig:
    """Greedy search."""

    tail: float = field(default=0.5, metadata={"help": "a last token fires with this much of its weight, 0.01 to 1"})

    def __attrs_post_init__(self) -> None:
        if not 0.01 <= self.tail <= 1:  # less is lost in the rounding of a sum
            raise ValueError(f"tail {self.tail} is not between 0.01 and 1")


@frozen(kw_only=True)
class CifLossConfig:
    """Cross entropy and quantity."""

    quantity_weight: float = field(default=1.0, metadata={"help": "of the quantity loss; the cross entropy has 1"})
