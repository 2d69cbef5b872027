"""Hearing an encoder after some of its layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

Behind = Callable[[int, Tensor, Tensor], object]
"""Called behind each layer with its number, what comes out of it and the valid frames `(B,)`."""


def heard(
    encoder: nn.Module, feats: Tensor, lens: Tensor, layers: Sequence[int]
) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
    """What the encoder gives, and what comes out of each of `layers`, with the valid frames.

    `encoder` takes `behind`, a `Behind`, in its `forward`.
    """
    found: dict[int, tuple[Tensor, Tensor]] = {}

    def keep(number: int, x: Tensor, frames: Tensor) -> None:
        if number in layers:
            found[number] = x, frames

    enc, counts = encoder(feats, lens, behind=keep)
    return enc, counts, [found[number] for number in layers]
