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


def depthwise1d(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`(B, T + K - 1, D)`, `(D, 1, K)`, `(D,)` to `(B, T, D)`."""
    y: Tensor = _Depthwise.apply(x.unsqueeze(1), weight.unsqueeze(2), bias, 1, 0)  # type: ignore[no-untyped-call]
    return y.squeeze(1)


def depthwise2d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    """`(B, H, W, C)`, `(C, 1, K, K)`, `(C,)` to `(B, H', W', C)`."""
    y: Tensor = _Depthwise.apply(x, weight, bias, stride, padding)  # type: ignore[no-untyped-call]
    return y


def batch_norm(norm: torch.nn.BatchNorm1d, x: Tensor) -> Tensor:
    """The layer on `(B, T, D)`."""
    return norm(x.flatten(0, 1)).view_as(x)


def from_one_channel(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    """A convolution of `(B, H, W)` with `(C, 1, K, K)`, `(C,)` to `(B, H', W', C)`: one matrix product."""
    size = weight.shape[-1]
    windows = functional.pad(x, (padding,) * 4).unfold(1, size, stride).unfold(2, size, stride)  # (B, H', W', K, K)
    return functional.linear(windows.flatten(3), weight.flatten(1), bias)


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution `(B, H, W, C)` to `(B, H', W', C)`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
        x, weight = x.contiguous(), weight.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, weight)
        ctx.options = [stride, stride], [padding, padding] if weight.shape[2] > 1 else [0, padding]
        image = x.permute(0, 3, 1, 2)
        return (
            functional.conv2d(image, weight, bias, ctx.options[0], ctx.options[1], groups=len(weight))
            .permute(0, 2, 3, 1)
            .contiguous()
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        of_x, of_weight, of_bias = ctx.needs_input_grad[:3]
        found = torch.ops.aten.convolution_backward(
            gradient.permute(0, 3, 1, 2),
            x.permute(0, 3, 1, 2),
            weight,
            None,
            *ctx.options,
            [1, 1],
            False,
            [0, 0],
            len(weight),
            [of_x, of_weight, False],
        )
        return (
            found[0].permute(0, 2, 3, 1) if of_x else None,
            found[1] if of_weight else None,
            gradient.flatten(0, 2).sum(0) if of_bias else None,
            None,
            None,
        )
