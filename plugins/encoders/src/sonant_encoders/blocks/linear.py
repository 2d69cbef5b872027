"""A linear layer that multiplies with a weight in the order in which the processor reads it, for inference on a CPU.

MKL packs a matrix anew for every product, which takes longer than the product itself for few rows, and a quarter as long for
those of ten seconds of audio. Here it is packed once, and kept beside the weight: that takes the weight's memory a second time.
"""

from __future__ import annotations

from typing import Self
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from sonant import memory

_ROWS = range(2, 2049)  # a single one is all reading, and of more than these packing takes no time to speak of
_SPARE = 2**30  # bytes of memory that packing leaves to others
_AGREES = 1e-4  # of the largest value: how far the two products may lie apart
_Stamp = tuple[int, int]

# Not an attribute of the layer: copies of a layer, and files of it, are to be without.
_kept: WeakKeyDictionary[nn.Module, tuple[_Stamp, Tensor | None]] = WeakKeyDictionary()


class Linear(torch.nn.Linear):
    """`nn.Linear`, with the same weights and the same results to rounding."""

    def forward(self, x: Tensor) -> Tensor:
        """`(…, in_features)` to `(…, out_features)`."""
        packed = self._packed(x) if self._packs(x) else None
        return super().forward(x) if packed is None else self._product(x, packed)

    def _packs(self, x: Tensor) -> bool:
        """Whether a packed weight is of use here: in inference of float32 on a CPU with MKL."""
        if torch.is_grad_enabled() or x.device.type != "cpu" or x.dtype != torch.float32 or self.weight.dtype != torch.float32:
            return False
        if self._rows(x) not in _ROWS or not torch.backends.mkl.is_available():
            return False
        if torch.compiler.is_compiling() or torch.compiler.is_exporting() or torch.is_autocast_enabled("cpu"):
            return False
        # A weight made in inference mode does not tell when it is changed.
        return not (self.weight.is_inference() or torch.jit.is_tracing())  # type: ignore[attr-defined,no-untyped-call]

    def train(self, mode: bool = True) -> Self:
        """Let go of the packed weight: training changes it."""
        _kept.pop(self, None)
        return super().train(mode)

    def _packed(self, x: Tensor) -> Tensor | None:
        """The packed weight; None where memory is too short for it."""
        stamp = self.weight.data_ptr(), self.weight._version
        kept = _kept.get(self)
        if kept is None or kept[0] != stamp:
            kept = stamp, self._pack(x)
            _kept[self] = kept  # threads may race here, and each still reads a whole pair
        return kept[1]

    def _pack(self, x: Tensor) -> Tensor | None:
        free = memory.free(self.weight.device)
        if free is not None and free < _SPARE + 2 * self.weight.nbytes:
            return None
        packed: Tensor = torch.ops.mkl._mkl_reorder_linear_weight(self.weight.detach().contiguous(), self._rows(x))
        # MKL does not promise in so many words that a matrix packed for some rows serves any number of them.
        for some in (x, x.reshape(-1, self.in_features)[:2]):
            wanted = super().forward(some)
            if (self._product(some, packed) - wanted).abs().max() > _AGREES * wanted.abs().max():
                return None
        return packed

    def _product(self, x: Tensor, packed: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkl._mkl_linear(x, packed, self.weight, self.bias, self._rows(x))
        return product

    def _rows(self, x: Tensor) -> int:
        return x.numel() // self.in_features
