"""The convolutional encoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeGuard

import torch
from torch import Tensor, nn

from sonant_encoders.blocks.convolution import MaskedGroupNorm
from sonant_encoders.blocks.dropout import Dropout
from sonant_encoders.blocks.layered import Behind, heard
from sonant_encoders.convolutional.config import BlockConfig, ConvolutionalConfig
from sonant_encoders.convolutional.layers import Convolution, Frames, Shuffle, SqueezeExcitation

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "hardtanh": nn.Hardtanh,
    "selu": nn.SELU,
    "swish": nn.SiLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "identity": nn.Identity,
}
_BATCH_NORM_EPSILON = 1e-3


class Convolutional(nn.Module):
    """Blocks of one-dimensional convolutions over time: Jasper, QuartzNet, Citrinet, ContextNet and their like.

    Args:
        config: the blocks.
        d_in: bins of the features.
    """

    def __init__(self, config: ConvolutionalConfig, *, d_in: int) -> None:
        super().__init__()
        self.config = config
        self.d_in, self.d_out = d_in, config.blocks[-1].filters
        self.subsampling = math.prod(math.prod(block.strides) for block in config.blocks)
        self.blocks = nn.ModuleList()
        dense: list[int] = []  # widths of what the dense blocks so far took in
        for block in config.blocks:
            if block.residual_dense:
                dense.append(d_in)
            self.blocks.append(Block(block, config, d_in, tuple(dense) if block.residual_dense else (d_in,)))
            d_in = block.filters
        self.apply(_initialize)

    def forward(self, feats: Tensor, lens: Tensor, *, behind: Behind | None = None) -> tuple[Tensor, Tensor]:
        """`(B, T, F)`, `(B,)` to `(B, T', D)`, `(B,)`. See `Behind`."""
        weight = next(self.parameters())
        values, frames = [feats.to(weight.dtype).transpose(1, 2)], Frames(lens, feats.shape[1])
        for number, block in enumerate(self.blocks):
            values, frames = block(values, frames)
            if behind is not None:
                behind(number, values[-1], frames.lens)
        return values[-1].transpose(1, 2), frames.lens

    @property
    def depth(self) -> int:
        """Layers, which are numbered from 0."""
        return len(self.blocks)

    def with_layers(
        self, feats: Tensor, lens: Tensor, layers: Sequence[int]
    ) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
        """What `forward` gives; and behind each of `layers` `(B, T', D)`, `(B,)`, as if the encoder ended there."""
        enc, counts, found = heard(self, feats, lens, layers)
        return enc, counts, [(x.transpose(1, 2), valid) for x, valid in found]

    attends_to_all = False

    def memory(self, frames: int) -> int:
        """About how many bytes `forward` takes at most for one recording of so many features, beside weights and features."""
        largest = taken = frames * self.d_in
        for block in self.config.blocks:
            frames = -(-frames // math.prod(block.strides))
            taken = (taken if block.residual_dense else 0) + frames * block.filters
            largest = max(largest, taken + 5 * frames * block.filters)
        return largest * next(self.parameters()).element_size()


class Block(nn.Module):
    """Convolutions with a norm each, activations between them, what the residual branches add, and a last activation."""

    def __init__(self, config: BlockConfig, encoder: ConvolutionalConfig, d_in: int, branches: tuple[int, ...]) -> None:
        super().__init__()
        self.maximum, self.dense = config.residual_mode == "max", config.residual_dense
        self.layers = nn.ModuleList(_layers(config, encoder, d_in))
        stride = config.stride if config.residual_mode == "stride_add" else 1
        self.residuals = nn.ModuleList(
            nn.ModuleList([Convolution(width, config.filters, stride=stride), _norm(encoder, config.filters)])
            for width in (branches if config.residual else ())
        )
        self.out = nn.Sequential(_activation(encoder), Dropout(config.dropout))

    def forward(self, inputs: list[Tensor], frames: Frames) -> tuple[list[Tensor], Frames]:
        """The last of `inputs` `(B, C, T)` through the block; among dense blocks, those before it come along."""
        x, after = _run(self.layers, inputs[-1], frames)
        if self.residuals:
            for value, branch in zip(inputs, self.residuals, strict=True):
                assert isinstance(branch, nn.ModuleList)
                joined, _ = _run(branch, value, frames)
                x = torch.maximum(x, joined) if self.maximum else x + joined
        x = self.out(x)
        return ([*inputs, x] if self.dense else [x]), after


def _run(layers: nn.ModuleList, x: Tensor, frames: Frames) -> tuple[Tensor, Frames]:
    """One layer after another; a batch norm in eval mode becomes part of the convolution before it."""
    following = [*layers[1:], None]
    for layer, after in zip(layers, following, strict=True):
        if isinstance(layer, Convolution):
            x, frames = layer(x, frames, after if _folds(after) else None)
        elif isinstance(layer, MaskedGroupNorm):
            x = layer(x, frames.mask)
        elif isinstance(layer, SqueezeExcitation):
            x = layer(x, frames)
        elif not _folds(layer):
            x = layer(x)
    return x, frames


def _folds(layer: nn.Module | None) -> TypeGuard[nn.BatchNorm1d]:
    return isinstance(layer, nn.BatchNorm1d) and not layer.training


def _layers(config: BlockConfig, encoder: ConvolutionalConfig, d_in: int) -> Iterator[nn.Module]:
    width = d_in
    for position, stride in enumerate(config.strides):
        if position:
            yield _activation(encoder)
            yield Dropout(config.dropout)
        yield from _convolutions(config, width, stride)
        yield _norm(encoder, config.filters)
        if config.groups > 1:
            yield Shuffle(config.groups)
        width = config.filters
    if config.se:
        yield SqueezeExcitation(width, config.se_reduction_ratio, config.se_context_size, _activation(encoder))


def _convolutions(config: BlockConfig, d_in: int, stride: int) -> Iterator[nn.Module]:
    kernel, padding, dilation = config.kernel, config.padding, config.dilation
    if config.separable:
        yield Convolution(d_in, d_in, kernel, padding, stride=stride, dilation=dilation, groups=d_in)
        yield Convolution(d_in, config.filters, groups=config.groups)
    else:
        yield Convolution(d_in, config.filters, kernel, padding, stride=stride, dilation=dilation, groups=config.groups)


def _norm(encoder: ConvolutionalConfig, width: int) -> nn.Module:
    if encoder.normalization == "batch":
        return nn.BatchNorm1d(width, eps=_BATCH_NORM_EPSILON)
    groups = {"layer": 1, "instance": width, "group": width if encoder.norm_groups == -1 else encoder.norm_groups}
    return MaskedGroupNorm(groups[encoder.normalization], width)


def _activation(encoder: ConvolutionalConfig) -> nn.Module:
    return _ACTIVATIONS[encoder.activation]()


def _initialize(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv1d, nn.Linear)):
        nn.init.xavier_uniform_(module.weight)
