"""Random inputs, the same for the same seed, with poison where nothing may look."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sonant import lengths

POISON = 100.0  # loud beside the noise that is valid, yet finite: padding is never NaN in a real batch


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), device="cpu")


def ids(*shape: int, below: int, seed: int = 0) -> Tensor:
    """Uniform ids."""
    return torch.randint(below, shape, generator=torch.Generator().manual_seed(seed), device="cpu")


def batch(lens: Sequence[int], *features: int, scale: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """`(B, N, *features)` noise with poison behind each recording's end, and the lengths `(B,)`."""
    lengths_ = torch.tensor(lens, dtype=torch.int64, device="cpu")
    values = scale * noise(len(lens), max(lens), *features, seed=seed)
    return poisoned(values, lengths_), lengths_


def poisoned(values: Tensor, lens: Tensor) -> Tensor:
    """`values` `(B, T, …)` with everything behind the lengths replaced."""
    valid = lengths.mask(lens, values.shape[1])
    return torch.where(valid.reshape(*valid.shape, *[1] * (values.ndim - 2)), values, POISON * values.sign())


@torch.no_grad()
def stir(module: nn.Module) -> None:
    """Move all parameters that are trained a little: some start from zeros, with which nothing else matters."""
    for seed, parameter in enumerate(p for p in module.parameters() if p.requires_grad):
        parameter.add_(0.02 * noise(*parameter.shape, seed=seed).to(parameter.dtype))
