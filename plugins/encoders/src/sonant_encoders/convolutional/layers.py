"""What the blocks of a convolutional encoder are made of. Tensors are channels first here, `(B, C, T)`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sonant import lengths
from sonant_encoders.blocks.convolution import fold


class Frames:
    """What the layers know of the recordings: their lengths, and which frames are padding."""

    def __init__(self, lens: Tensor, size: int) -> None:
        self.lens = lens
        self.mask = None if lengths.all_valid(lens, size) else lengths.mask(lens, size)

    def clean(self, x: Tensor) -> Tensor:
        """`(B, C, T)` with zeros in the padding."""
        return x if self.mask is None else torch.where(self.mask[:, None], x, 0.0)


class Convolution(nn.Module):
    """A convolution without bias that hears silence before a recording, behind it, and in its padding.

    Args:
        d_in, d_out: channels.
        kernel: frames.
        padding: frames of silence before and behind.
        stride, dilation, groups: as in `torch.nn.Conv1d`.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        kernel: int = 1,
        padding: tuple[int, int] = (0, 0),
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.padding = padding
        self.grows_by = sum(padding) - dilation * (kernel - 1)
        self.conv = nn.Conv1d(d_in, d_out, kernel, stride, dilation=dilation, groups=groups, bias=False)

    def forward(self, x: Tensor, frames: Frames, norm: nn.BatchNorm1d | None = None) -> tuple[Tensor, Frames]:
        """`(B, C, T)` to `(B, C', T')`; a `norm` that is given is a batch norm in eval mode, and folded in."""
        conv = self.conv
        weight, bias = (conv.weight, None) if norm is None else fold(conv, norm)
        if conv.kernel_size[0] > 1 or self.training:
            x = frames.clean(x)  # one frame of kernel carries no padding elsewhere; a batch norm in training must not see it
        x = self._convolve(x, weight, bias)
        if conv.stride[0] == 1 and self.grows_by == 0:
            return x, frames
        lens = (frames.lens + self.grows_by - 1).div(conv.stride[0], rounding_mode="floor") + 1
        return x, Frames(lens, x.shape[2])

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        conv = self.conv
        if conv.kernel_size[0] == conv.groups == 1:  # on a CPU, faster than a convolution
            x, weight = x[:, :, :: conv.stride[0]], weight.squeeze(2)
            if bias is None:
                return torch.matmul(weight, x)
            return torch.baddbmm(bias[:, None], weight.expand(x.shape[0], -1, -1), x)
        x = functional.pad(x, self.padding)  # on a CPU, depthwise convolutions that pad by themselves are five times as slow
        return functional.conv1d(x, weight, bias, conv.stride, 0, conv.dilation, conv.groups)


class Shuffle(nn.Module):
    """Channels of all groups in turn, so that the groups of the next layer hear each of them (Zhang et al., 2018)."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, T)` to `(B, C, T)`."""
        return x.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)


class SqueezeExcitation(nn.Module):
    """Scales each channel by what the whole recording holds of all of them (Hu et al., 2018).

    Args:
        width: channels.
        reduction: how many times fewer there are between the two linear layers.
        context: frames of the excerpt that stands for the recording in training; less than 1: no excerpt.
        activation: between the linear layers.
    """

    def __init__(self, width: int, reduction: int, context: int, activation: nn.Module) -> None:
        super().__init__()
        self.context = context
        inner = width // reduction
        self.fc = nn.Sequential(nn.Linear(width, inner, bias=False), activation, nn.Linear(inner, width, bias=False))

    def forward(self, x: Tensor, frames: Frames) -> Tensor:
        """`(B, C, T)` to `(B, C, T)`, zeros in the padding."""
        x = frames.clean(x)
        heard, mask = x, frames.mask
        if self.training and 0 < self.context < x.shape[2]:
            start = int(torch.randint(x.shape[2] - self.context, ()))
            heard = x[:, :, start : start + self.context]
            mask = None if mask is None else mask[:, start : start + self.context]
        count = heard.shape[2] if mask is None else mask.sum(1, keepdim=True).clamp(min=1)
        mean = heard.sum(2, dtype=torch.promote_types(x.dtype, torch.float32)) / count
        return x * torch.sigmoid(self.fc(mean.to(x.dtype)))[:, :, None]
