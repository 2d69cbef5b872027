"""NeMo's `ConvASREncoder` as a convolutional encoder, and back."""

from __future__ import annotations

from typing import Any

from sonant.errors import CheckpointError
from sonant.nemo import ComponentMapping, NemoSection, Rename
from sonant_encoders.convolutional.config import ConvolutionalConfig

_TARGET = "nemo.collections.asr.modules.ConvASREncoder"
_SAME = {  # key in both: NeMo's default
    "filters": None,
    "repeat": None,
    "dropout": None,
    "residual": None,
    "groups": 1,
    "separable": False,
    "residual_dense": False,
    "se": False,
    "se_reduction_ratio": 8,
    "se_context_size": -1,
    "stride_last": False,
    "future_context": -1,
}
_SINGLE = ("stride", "dilation")  # lists of one number


def read(section: NemoSection) -> dict[str, Any]:
    """NeMo's section to ours."""
    section.expect("frame_splicing", 1)
    section.take("feat_in", None)
    section.expect("conv_mask", True)  # padding is always silent here
    section.drop("init_mode", "quantize")
    mode = section.take("residual_mode", "add")
    blocks = []
    for number, values in enumerate(section.take("jasper")):
        block = NemoSection(values, f"{section.path}.jasper[{number}]")
        mode = block.take("residual_mode", mode)  # what a block says holds for those behind it too
        blocks.append(_block(block) | {"residual_mode": mode})
        section.dropped += block.finish()
    return {
        "blocks": blocks,
        "activation": section.take("activation"),
        "normalization": section.take("normalization_mode", "batch"),
        "norm_groups": section.take("norm_groups", -1),
    }


def _block(block: NemoSection) -> dict[str, Any]:
    block.expect("heads", -1)
    factor = float(block.take("kernel_size_factor", 1.0))
    values = {key: block.take(key) if default is None else block.take(key, default) for key, default in _SAME.items()}
    values |= {key: _single(block, key) for key in _SINGLE}
    block.drop("se_interpolation_mode")
    kernel = max(int(_single(block, "kernel") * factor), 1)
    return values | {"kernel": kernel + 1 - kernel % 2}  # NeMo's rounding: down, then up to an odd number


def _single(block: NemoSection, key: str) -> int:
    value = block.take(key)
    numbers = value if isinstance(value, list) else [value]
    if len(numbers) != 1:
        raise CheckpointError(f"{block.path}.{key} is {value!r}; a block has one")
    return int(numbers[0])


def write(config: ConvolutionalConfig, d_in: int) -> dict[str, Any]:
    """Our config to NeMo's section."""
    plain, lists = (*_SAME, "residual_mode"), (*_SINGLE, "kernel")
    blocks = [{k: getattr(block, k) for k in plain} | {k: [getattr(block, k)] for k in lists} for block in config.blocks]
    return {
        "_target_": _TARGET,
        "feat_in": d_in,
        "activation": config.activation,
        "conv_mask": True,
        "normalization_mode": config.normalization,
        "norm_groups": config.norm_groups,
        "jasper": blocks,
    }


MAPPING = ComponentMapping(
    read=read,
    write=write,
    tensors=(
        Rename("encoder.{}.mconv.{}", "blocks.{}.layers.{}"),
        Rename("encoder.{}.res.{}", "blocks.{}.residuals.{}"),
    ),
)
