"""The convolution module of the Conformer (Gulati et al., 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sonant_encoders.blocks import channels_last
from sonant_encoders.blocks.linear import Linear


class MaskedGroupNorm(nn.GroupNorm):
    """Group norm over the valid frames only, so that padding does not change a recording's result."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`(B, D, T)`, `(B, T)` to `(B, D, T)`."""
        if mask is None:
            # Not `functional.group_norm`, which refuses a single value.
            return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
        # Sums over a recording are more than float16 holds, and its length more than bfloat16 counts.
        grouped = x.to(torch.promote_types(x.dtype, torch.float32)).unflatten(1, (self.num_groups, -1))  # (B, G, D / G, T)
        valid = mask[:, None, None, :]
        count = mask.sum(1).clamp(min=1)[:, None, None, None] * grouped.shape[2]
        mean = grouped.masked_fill(~valid, 0.0).sum((2, 3), keepdim=True) / count
        variance = (grouped - mean).masked_fill(~valid, 0.0).square().sum((2, 3), keepdim=True) / count
        normal = ((grouped - mean) * torch.rsqrt(variance + self.eps)).flatten(1, 2).to(x.dtype)
        return normal * self.weight[:, None] + self.bias[:, None]


class ConvolutionModule(nn.Module):
    """Pointwise, gated linear unit, depthwise, normalization, SiLU, pointwise.

    Args:
        width: of the model.
        kernel: frames of the depthwise convolution.
        left, right: how far it reaches to either side, together `kernel - 1`.
        norm: `batch_norm`, `layer_norm`, or `group_normN` with N groups.
        bias: whether the convolutions have one.
    """

    def __init__(self, width: int, kernel: int, left: int, right: int, *, norm: str = "batch_norm", bias: bool = True) -> None:
        super().__init__()
        self.left, self.right = left, right
        self.pointwise1 = Linear(width, 2 * width, bias=bias)
        self.depthwise = nn.Conv1d(width, width, kernel, groups=width, bias=bias)
        self.norm = _norm(norm, width)
        self.pointwise2 = Linear(width, width, bias=bias)

    def forward(self, x: Tensor, mask: Tensor | None = None, cache: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`(B, T, D)`, validity `(B, T)` to `(B, T, D)` and what the depthwise convolution takes, `(B, kernel - 1 + T, D)`.

        `cache` are the `left` frames of it that came before in the stream; without them, silence.
        """
        x = functional.glu(self.pointwise1(x), dim=-1)
        if channels_last.wanted(x) and cache is None:
            return self._train(x, mask)
        if mask is not None:
            x = x.masked_fill(~mask.unsqueeze(-1), 0.0)
        if cache is None:
            x = functional.pad(x.transpose(1, 2), (self.left, self.right))  # (B, D, left + T + right)
        else:
            x = functional.pad(torch.cat([cache, x], dim=1).transpose(1, 2), (0, self.right))
        return self.pointwise2(functional.silu(self._convolve(x, mask)).transpose(1, 2)), x.transpose(1, 2)

    def _train(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """What `forward` does behind the gate, the faster way where gradients are wanted on a CPU."""
        if mask is not None:
            x = x * mask.unsqueeze(-1).to(x.dtype)
        before = functional.pad(x, (0, 0, self.left, self.right))  # (B, left + T + right, D)
        x = channels_last.depthwise(before, self.depthwise.weight, self.depthwise.bias)
        if isinstance(self.norm, nn.LayerNorm):
            x = self.norm(x)
        elif type(self.norm) is nn.BatchNorm1d:
            x = channels_last.batch_norm(self.norm, x)
        else:
            x = x.transpose(1, 2)
            x = (self.norm(x, mask) if isinstance(self.norm, MaskedGroupNorm) else self.norm(x)).transpose(1, 2)
        return self.pointwise2(functional.silu(x)), before

    def _convolve(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Depthwise convolution and norm, `(B, D, T + kernel - 1)` to `(B, D, T)`; a batch norm in eval mode is folded in."""
        if isinstance(self.norm, nn.BatchNorm1d) and not self.training:
            weight, bias = fold(self.depthwise, self.norm)
            return functional.conv1d(x, weight, bias, groups=self.depthwise.groups)
        x = self.depthwise(x)
        if isinstance(self.norm, nn.LayerNorm):
            return self.norm(x.transpose(1, 2)).transpose(1, 2)
        return self.norm(x, mask) if isinstance(self.norm, MaskedGroupNorm) else self.norm(x)


def _norm(name: str, width: int) -> nn.Module:
    if name == "batch_norm":
        return nn.BatchNorm1d(width)
    if name == "layer_norm":
        return nn.LayerNorm(width)
    return MaskedGroupNorm(int(name.removeprefix("group_norm")), width)


def fold(conv: nn.Conv1d, norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Weights of one convolution that does what `conv` and then `norm` (with its running statistics) do."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    bias = norm.bias - norm.running_mean * scale
    return conv.weight * scale[:, None, None], bias if conv.bias is None else bias + conv.bias * scale
