"""Dropout (Srivastava et al., 2014) whose random numbers cost little on a CPU."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
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
        if x.device.type != "cpu" or self.p == 1 or torch.compiler.is_compiling() or torch.compiler.is_exporting():
            return functional.dropout(x, self.p)
        return x * keep_mask(x.shape, self.p).to(x.dtype)

    def extra_repr(self) -> str:
        """What the printed module says."""
        return f"p={self.p}"


def keep_mask(shape: torch.Size, p: float) -> Tensor:
    """float32 of that shape on the CPU: 0 with probability `p`, rounded to 1 in 65,536, else what keeps the mean at 1."""
    count = shape.numel()
    generator = np.random.SFC64(int(torch.randint(2**63 - 1, ())))
    bits = generator.random_raw(-(-count // 4)).view(np.uint16)[:count]
    dropped = round(p * _LEVELS)
    mask = np.multiply(bits >= dropped, np.float32(_LEVELS / max(1, _LEVELS - dropped)), dtype=np.float32)
    return torch.from_numpy(mask).view(shape)
