"""Lengths and the masks that follow from them."""

from __future__ import annotations

import torch
from torch import Tensor


def mask(lens: Tensor, size: int) -> Tensor:
    """`(B,)` lengths to a `(B, size)` boolean mask, true on valid positions."""
    return torch.arange(size, device=lens.device) < lens[:, None]


def pad(sequences: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Stack 1-D tensors into `(B, N)`, zeros behind the shorter ones, and their lengths `(B,)` int64."""
    lens = torch.tensor([len(s) for s in sequences], dtype=torch.int64)
    return torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True), lens


def all_valid(lens: Tensor, size: int) -> bool:
    """Whether nothing is padding, as far as that is known: on an accelerator asking would mean waiting, so the answer is no; and
    in a graph that is exported it must be right for any lengths."""
    return lens.device.type == "cpu" and not torch.compiler.is_exporting() and bool((lens >= size).all())
