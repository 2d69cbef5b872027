"""What the configs of all beam searches check."""

from __future__ import annotations


def check_beam(beam_size: int, n_best: int) -> None:
    """A beam search cannot give more hypotheses than it keeps.

    Raises:
        ValueError: the numbers make no sense.
    """
    if beam_size < 1:
        raise ValueError(f"beam_size {beam_size} must be at least 1")
    if not 1 <= n_best <= beam_size:
        raise ValueError(f"n_best {n_best} must be between 1 and beam_size, which is {beam_size}")
