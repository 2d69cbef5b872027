"""Config of the convolutional encoders. Names follow NeMo's."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen


def _help(text: str) -> dict[str, str]:
    return {"help": text}


@frozen(kw_only=True)
class BlockConfig:
    """One block: convolutions with a norm and an activation each, and what is added to the output of the last."""

    filters: int = field(metadata=_help("channels"))
    kernel: int = field(metadata=_help("frames of each convolution, odd"))
    repeat: int = field(default=1, metadata=_help("convolutions, one after another"))
    stride: int = field(default=1, metadata=_help("how many frames become one, in each of the convolutions"))
    stride_last: bool = field(default=False, metadata=_help("only the last of the convolutions has the stride"))
    dilation: int = field(default=1, metadata=_help("frames from one of the kernel to the next"))
    groups: int = field(default=1, metadata=_help("groups of channels that do not hear each other; shuffled afterwards"))
    separable: bool = field(default=False, metadata=_help("depthwise convolutions over time, then pointwise ones over channels"))
    residual: bool = field(default=False, metadata=_help("add the block's input, through a pointwise convolution"))
    residual_mode: Literal["add", "stride_add", "max"] = field(
        default="add", metadata=_help("how the input joins: added, added with the block's stride, or the larger of the two")
    )
    residual_dense: bool = field(default=False, metadata=_help("add the inputs of the dense blocks before this one as well"))
    se: bool = field(default=False, metadata=_help("squeeze and excitation after the last convolution"))
    se_reduction_ratio: int = field(default=8, metadata=_help("how many times fewer channels it has inside"))
    se_context_size: int = field(
        default=-1, metadata=_help("frames of a random excerpt that it averages in training; -1: the whole recording")
    )
    future_context: int = field(default=-1, metadata=_help("frames ahead that the kernel reaches; -1: half of it"))
    dropout: float = field(default=0.0, metadata=_help("after each activation"))

    def __attrs_post_init__(self) -> None:
        self._check_convolutions()
        self._check_residual()
        if self.se and not 1 <= self.se_reduction_ratio <= self.filters:
            raise ValueError(f"se_reduction_ratio {self.se_reduction_ratio} must lie in [1, filters]; filters are {self.filters}")

    def _check_convolutions(self) -> None:
        counts = {name: getattr(self, name) for name in ("filters", "kernel", "repeat", "stride", "dilation", "groups")}
        for name, value in counts.items():
            if value < 1:
                raise ValueError(f"{name} {value} must be at least 1")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} is even; it must be odd")
        if self.stride > 1 and self.dilation > 1:
            raise ValueError(f"stride {self.stride} and dilation {self.dilation}: one of them must be 1")
        if self.kernel == 1 and any(self.padding):
            raise ValueError(
                f"kernel 1 with dilation {self.dilation} and future_context {self.future_context}: it reaches nowhere"
            )
        if self.filters % self.groups:
            raise ValueError(f"groups {self.groups} does not divide filters {self.filters}")

    def _check_residual(self) -> None:
        if self.residual_dense and (not self.residual or self.stride > 1):
            raise ValueError("residual_dense needs residual: true and stride 1")
        if not self.residual:
            return
        single = self.repeat == 1 or self.stride_last
        if self.stride > 1 and not (self.residual_mode == "stride_add" and single):
            raise ValueError(
                "with a stride, the residual needs residual_mode: stride_add, and where the block repeats, stride_last: true"
            )
        if sum(self.padding) != self.dilation * (self.kernel - 1):
            raise ValueError("future_context with a dilation adds frames, which leaves nothing for a residual to be added to")

    @property
    def strides(self) -> tuple[int, ...]:
        """Of each of the convolutions."""
        before = 1 if self.stride_last else self.stride
        return (*[before] * (self.repeat - 1), self.stride)

    @property
    def padding(self) -> tuple[int, int]:
        """Frames of silence before and behind, for each of the convolutions."""
        reach = self.dilation * (self.kernel - 1)
        if self.future_context < 0 or self.kernel <= self.future_context:
            return reach // 2, reach // 2
        ahead = self.dilation * self.future_context
        extra = self.dilation - 1  # NeMo's sum, which no trained weights would survive to have corrected
        return reach - ahead + extra, ahead


@frozen(kw_only=True)
class ConvolutionalConfig:
    """Blocks of one-dimensional convolutions, one after another.

    Jasper (Li et al., 2019) has full convolutions; QuartzNet (Kriman et al., 2020) separable ones; Citrinet (Majumdar et al.,
    2021) and ContextNet (Han et al., 2020) squeeze and excitation besides. MatchboxNet (Majumdar and Ginsburg, 2020),
    MarbleNet (Jia et al., 2021) and TitaNet (Koluguri et al., 2022) are built of the same blocks.
    """

    blocks: list[BlockConfig] = field(metadata=_help("the blocks, first to last"))
    activation: Literal["relu", "hardtanh", "selu", "swish", "silu", "gelu", "identity"] = field(
        default="relu", metadata=_help("after each norm; swish and silu are the same, hardtanh clips to [-1, 1]")
    )
    normalization: Literal["batch", "layer", "group", "instance"] = field(
        default="batch", metadata=_help("after each convolution, over the valid frames; layer: of all channels together")
    )
    norm_groups: int = field(default=-1, metadata=_help("groups of a group norm; -1: each channel is one"))

    def __attrs_post_init__(self) -> None:
        if not self.blocks:
            raise ValueError("blocks is empty; an encoder has at least one")
        uneven = [b.filters for b in self.blocks if self.norm_groups > 0 and b.filters % self.norm_groups]
        if self.normalization == "group" and (uneven or self.norm_groups == 0 or self.norm_groups < -1):
            raise ValueError(f"norm_groups {self.norm_groups} must be -1 or divide the filters of every block")
        self._check_dense()

    def _check_dense(self) -> None:
        ended = False
        for before, block in zip(self.blocks, self.blocks[1:], strict=False):
            ended = ended or (before.residual_dense and not block.residual_dense)
            if before.residual_dense and not block.residual_dense and block.residual:
                raise ValueError("the block after those with residual_dense must be dense too, or have no residual")
            if ended and block.residual_dense:
                raise ValueError("the blocks with residual_dense must follow one another")
