"""Dropout (Srivastava et al., 2014) whose random numbers cost little on a CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

_LEVELS = 2**16  # the probability is rounded to one of as many


class Dropout(nn.Module):
    """Zeroes elements at random in training, and scales the others so that sums stay the same on average.

    PyTorch draws one number an element, one after the other, which on a CPU takes as long as a fifth of a whole training step.
    Here 16 random bits of a generator that PyTorch's own seeds do: what is dropped still follows from `torch.manual_seed` alone,
    and not from the number of threads. On other devices it is PyTorch's.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"dropout probability {p} does not lie in [0, 1]")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        if not self.training or self.p == 0:
            return x
        if not self._by_mask(x):
            return functional.dropout(x, self.p)
        return x * keep_mask(x.shape, self.p).to(x.dtype)

    def of_silu(self, x: Tensor) -> Tensor:
        """What `forward` makes of SiLU of `x`; in training on a CPU in fewer passes over memory."""
        if not self.training or self.p == 0 or x.dtype != torch.float32 or not self._by_mask(x):
            return self(functional.silu(x))
        found: Tensor = _SiluDropout.apply(x, keep_mask(x.shape, self.p))  # type: ignore[no-untyped-call]
        return found

    def _by_mask(self, x: Tensor) -> bool:
        plain = not (torch.compiler.is_compiling() or torch.compiler.is_exporting())
        return x.device.type == "cpu" and self.p < 1 and plain

    def extra_repr(self) -> str:
        """What the printed module says."""
        return f"p={self.p}"


class _SiluDropout(torch.autograd.Function):
    """SiLU of a tensor, times another."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(x, mask)
        return functional.silu(x).mul_(mask)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        x, mask = ctx.saved_tensors
        of_silu = gradient * mask
        torch.ops.aten.silu_backward.grad_input(of_silu, x, grad_input=of_silu)
        return of_silu, None


def keep_mask(shape: torch.Size, p: float) -> Tensor:
    """float32 of that shape on the CPU: 0 with probability `p`, rounded to 1 in 65,536, else what keeps the mean at 1."""
    count = shape.numel()
    generator = np.random.SFC64(int(torch.randint(2**63 - 1, ())))
    bits = generator.random_raw(-(-count // 4)).view(np.uint16)[:count]
    dropped = round(p * _LEVELS)
    mask = np.multiply(bits >= dropped, np.float32(_LEVELS / max(1, _LEVELS - dropped)), dtype=np.float32)
    return torch.from_numpy(mask).view(shape)
