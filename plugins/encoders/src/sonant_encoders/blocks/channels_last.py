"""Convolutions for training on a CPU, with channels innermost: its library computes them several times as fast so.

PyTorch keeps a layout by looking at strides, and loses it where a dimension has one element and in the gradient of a bias; here
it is kept on purpose.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


def wanted(x: Tensor) -> bool:
    """Whether these are the faster way: gradients are wanted, of float32 on a CPU."""
    plain = not (torch.compiler.is_compiling() or torch.compiler.is_exporting() or torch.is_autocast_enabled("cpu"))
    return torch.is_grad_enabled() and x.device.type == "cpu" and x.dtype == torch.float32 and plain


def depthwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`(B, T + K - 1, D)`, `(D, 1, K)`, `(D,)` to `(B, T, D)`."""
    y: Tensor = _Depthwise.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return y


def batch_norm(norm: torch.nn.BatchNorm1d, x: Tensor) -> Tensor:
    """The layer on `(B, T, D)`."""
    return norm(x.flatten(0, 1)).view_as(x)


class _Depthwise(torch.autograd.Function):
    """Time is the height of an image, not its width: the gradient of the weights is several times as fast."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        x, weight = x.contiguous(), _kernel(weight)
        ctx.save_for_backward(x, weight)
        return functional.conv2d(_image(x), weight, bias, groups=len(weight)).squeeze(3).transpose(1, 2).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        of_x, of_weight, of_bias = ctx.needs_input_grad
        ones, wanted = [1, 1], [of_x, of_weight, False]
        found = torch.ops.aten.convolution_backward(
            _image(gradient), _image(x), weight, None, ones, [0, 0], ones, False, [0, 0], len(weight), wanted
        )
        return (
            found[0].squeeze(3).transpose(1, 2) if of_x else None,
            found[1].flatten(1).unsqueeze(1) if of_weight else None,  # (D, 1, K), with the strides of the weights
            gradient.flatten(0, 1).sum(0) if of_bias else None,
        )


def _image(x: Tensor) -> Tensor:
    return x.unsqueeze(2).permute(0, 3, 1, 2)  # (B, T, D) -> (B, D, T, 1)


def _kernel(weight: Tensor) -> Tensor:
    return weight.unsqueeze(3).contiguous(memory_format=torch.channels_last)  # (D, 1, K) -> (D, 1, K, 1)
