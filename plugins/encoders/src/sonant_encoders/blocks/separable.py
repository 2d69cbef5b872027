"""The convolutions of `dw_striding` subsampling for training on a CPU, their gradient written out.

A recording at a time, for the maps of all leave the processor's cache, and with channels innermost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from sonant_encoders.blocks import channels_last

_STRIDES, _PADDING = [2, 2], [1, 1]


def wanted(feats: Tensor) -> bool:
    """Whether this is the faster way, and gives all the gradients: those of the features it does not."""
    return channels_last.wanted(feats) and not feats.requires_grad


def stack(feats: Tensor, lens: Tensor, layers: Sequence[nn.Conv2d]) -> Tensor:
    """`(B, T, F)`, `(B,)` to `(B, T', F', C)`: a full convolution, then depthwise and pointwise ones, and ReLU behind those that
    mix channels. Beyond each length come zeros."""
    weights = [weight for layer in layers for weight in (layer.weight, layer.bias)]
    found: Tensor = _Stack.apply(feats, lens.clamp(min=1).tolist(), *weights)  # type: ignore[no-untyped-call]
    return found


class _Stack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, feats: Tensor, lens: list[int], *weights: Tensor) -> Tensor:
        first, bias, *rest = weights
        stages = [_Stage(*rest[n : n + 4]) for n in range(0, len(rest), 4)]
        maps = [_recording(row[:size], first, bias, stages) for row, size in zip(feats, lens, strict=True)]
        frames = feats.shape[1]
        for _ in range(len(stages) + 1):
            frames = (frames + 1) // 2
        rows = [row[-1] for row in maps]
        out = rows[0].new_zeros(len(rows), frames, *rows[0].shape[1:])
        for n, row in enumerate(rows):
            out[n, : len(row)] = row
        ctx.count = len(maps[0])
        ctx.save_for_backward(*weights, *(one for row in maps for one in row))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        weights = saved[: len(ctx.needs_input_grad) - 2]
        rest = weights[2:]
        stages = [_Stage(*rest[n : n + 4]) for n in range(0, len(rest), 4)]
        found = [torch.zeros_like(weight) for weight in weights]
        maps = saved[len(weights) :]
        for n, of_row in enumerate(gradient):
            windows, *inner = maps[n * ctx.count : (n + 1) * ctx.count]
            of_x = of_row[: len(inner[-1])].contiguous()
            for depth in range(len(stages), 0, -1):
                before, between, after = inner[2 * depth - 2 : 2 * depth + 1]
                of_x = stages[depth - 1].backward(of_x, before, between, after, found[4 * depth - 2 : 4 * depth + 2])
            of_x = _through_relu(of_x, inner[0])
            found[0].flatten(1).addmm_(of_x.T, windows.T)
            found[1].add_(of_x.sum(0))
        return (None, None, *found)


def _recording(row: Tensor, first: Tensor, bias: Tensor, stages: Sequence[_Stage]) -> list[Tensor]:
    """`(T, F)` to the windows of the first convolution and all maps `(T', F', C)`, the last at the end."""
    windows = functional.pad(row, (1, 1, 1, 1)).unfold(0, 3, 2).unfold(1, 3, 2)  # (T', F', 3, 3)
    height, width = windows.shape[:2]
    flat = windows.permute(2, 3, 0, 1).reshape(9, -1)  # in long pieces: nine values at a time take several times as long
    x = torch.addmm(bias, flat.T, first.flatten(1).T).relu_().view(height, width, -1)
    maps = [flat, x]
    for stage in stages:
        maps += stage.forward(maps[-1])
    return maps


class _Stage:
    """A depthwise and a pointwise convolution and ReLU."""

    def __init__(self, depthwise: Tensor, depthwise_bias: Tensor, pointwise: Tensor, pointwise_bias: Tensor) -> None:
        self.depthwise, self.depthwise_bias = depthwise.contiguous(memory_format=torch.channels_last), depthwise_bias
        self.pointwise, self.pointwise_bias = pointwise.flatten(1), pointwise_bias

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`(T, F, C)` to what comes between the two, and the result, `(T', F', C)`."""
        image = functional.conv2d(_image(x), self.depthwise, self.depthwise_bias, _STRIDES, _PADDING, groups=x.shape[2])
        between = image[0].permute(1, 2, 0).contiguous()
        after = torch.addmm(self.pointwise_bias, between.flatten(0, 1), self.pointwise.T).relu_()
        return between, after.view_as(between)

    def backward(self, gradient: Tensor, before: Tensor, between: Tensor, after: Tensor, found: Sequence[Tensor]) -> Tensor:
        """The gradient of `before`; those of the weights are added to `found`."""
        depthwise, depthwise_bias, pointwise, pointwise_bias = found
        gradient = _through_relu(gradient, after)
        pointwise.flatten(1).addmm_(gradient.T, between.flatten(0, 1))
        pointwise_bias.add_(gradient.sum(0))
        gradient = gradient @ self.pointwise
        depthwise_bias.add_(gradient.sum(0))
        channels, ones = len(self.depthwise), [1, 1]
        of_before, of_weight, _ = torch.ops.aten.convolution_backward(
            _image(gradient.view_as(between)), _image(before), self.depthwise, None,
            _STRIDES, _PADDING, ones, False, [0, 0], channels, [True, True, False],
        )  # fmt: skip
        depthwise.add_(of_weight)
        return of_before[0].permute(1, 2, 0)


def _through_relu(gradient: Tensor, result: Tensor) -> Tensor:
    """`(T, F, C)` to `(T F, C)`."""
    found: Tensor = torch.ops.aten.threshold_backward(gradient, result, 0)
    return found.flatten(0, 1)


def _image(x: Tensor) -> Tensor:
    return x.unsqueeze(0).permute(0, 3, 1, 2)  # (T, F, C) -> (1, C, T, F), with channels innermost also by its strides
