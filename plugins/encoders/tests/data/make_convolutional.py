"""Makes `convolutional.npz`: what NeMo 3.0's ConvASREncoder computes with options that the checkpoints in `tests/nemo-cases`
do not have. Runs in NeMo's environment, not in ours:

    python plugins/encoders/tests/data/make_convolutional.py

Input and weights are drawn from seeds, so that only outputs are stored: `enc_NAME` `(B, D, T)` and `lens_NAME` belong to the
section NAME of `sections`, JSON of the configs as NeMo writes them. Made with nemo-toolkit 3.0.0.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from nemo.collections.asr.modules import ConvASREncoder


def block(filters: int, kernel: int, **options) -> dict:
    """A block as NeMo's configs write it."""
    numbers = {"kernel": [kernel], "stride": [options.pop("stride", 1)], "dilation": [options.pop("dilation", 1)]}
    return {"filters": filters, "repeat": 1, "dropout": 0.0, "residual": False} | numbers | options


def section(*blocks: dict, **options) -> dict:
    return {"feat_in": 12, "activation": "relu", "conv_mask": True, "jasper": list(blocks)} | options


RESIDUAL = {"repeat": 2, "residual": True}
DENSE = RESIDUAL | {"residual_dense": True}
EXCITED = RESIDUAL | {"separable": True, "se": True}
SIMPLE = (block(16, 5), block(16, 7, **RESIDUAL), block(8, 3, separable=True))
SECTIONS = {
    "full": section(*SIMPLE),
    "dense": section(block(10, 5, stride=2), block(12, 5, **DENSE), block(14, 3, **DENSE), block(16, 7, **DENSE), block(8, 1)),
    "dense_first": section(block(12, 5, **DENSE), block(16, 3, residual_mode="max", **DENSE)),
    "maximum": section(block(16, 5), block(16, 5, residual_mode="max", **RESIDUAL), block(8, 3, **RESIDUAL)),
    "maximum_of_all": section(*SIMPLE, residual_mode="max"),
    "groups": section(block(12, 5, groups=3), block(16, 5, groups=4, **RESIDUAL)),
    "groups_separable": section(block(16, 5), block(16, 9, groups=2, separable=True, **RESIDUAL)),
    "excitation": section(block(16, 5, se=True), block(24, 7, se_reduction_ratio=3, se_context_size=16, **EXCITED)),
    "excitation_of_no_excerpt": section(block(16, 5, se=True, se_reduction_ratio=2, se_context_size=0)),
    "stride": section(block(16, 5, repeat=2, stride=2), block(16, 5, stride=3, residual=True, residual_mode="stride_add")),
    "stride_last": section(
        block(16, 5, stride=2, stride_last=True, residual_mode="stride_add", **RESIDUAL), block(8, 3, stride=2)
    ),
    "dilation": section(block(16, 5, dilation=2, repeat=2), block(16, 7, dilation=3, **RESIDUAL)),
    "kernel_size_factor": section(block(16, 11, kernel_size_factor=0.4), block(16, 5, kernel_size_factor=1.3, **RESIDUAL)),
    "future": section(block(16, 7, future_context=1), block(16, 5, future_context=8), block(16, 5, future_context=4, **RESIDUAL)),
    "future_strided": section(block(16, 7, future_context=0, stride=2), block(16, 5, future_context=2, separable=True)),
    "future_dilated": section(block(16, 5, future_context=1, dilation=2, repeat=2), block(8, 3, **RESIDUAL)),
    "hardtanh": section(*SIMPLE, activation="hardtanh"),
    "selu": section(*SIMPLE, activation="selu"),
    "swish": section(*SIMPLE, activation="swish"),
    "gelu": section(*SIMPLE, activation="gelu"),
    "identity": section(*SIMPLE, activation="identity"),
    "swish_excited": section(block(16, 5, se=True, **RESIDUAL), activation="swish"),
    "layer": section(*SIMPLE, normalization_mode="layer"),
    "group": section(*SIMPLE, normalization_mode="group", norm_groups=4),
    "group_each": section(*SIMPLE, normalization_mode="group"),
    "instance": section(*SIMPLE, normalization_mode="instance"),
}


def draw(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The weights called `name`: always the same, of a size that keeps signals in range."""
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("running_var"):
        values = 0.5 + abs(values)
    elif len(shape) == 1 and name.endswith("weight"):
        values = 1 + 0.1 * values
    elif len(shape) > 1:
        values = values / np.prod(shape[1:]) ** 0.5
    return torch.tensor(values, dtype=torch.float32)


def main() -> None:
    arrays = {}
    for name, options in SECTIONS.items():
        encoder = ConvASREncoder(**options).eval()
        with torch.no_grad():
            for key, tensor in encoder.state_dict().items():
                if tensor.is_floating_point():
                    tensor.copy_(draw(key, tuple(tensor.shape)))
            feats = np.random.default_rng(0).standard_normal((2, options["feat_in"], 70))
            # NeMo's norms over time count padding, so there is none for them.
            lens = torch.tensor([70, 43 if "normalization_mode" not in options else 70])
            enc, enc_lens = encoder(audio_signal=torch.tensor(feats, dtype=torch.float32), length=lens)
        arrays |= {f"enc_{name}": enc.numpy(), f"lens_{name}": enc_lens.numpy()}
    path = Path(__file__).resolve().parent / "convolutional.npz"
    np.savez_compressed(path, sections=np.array(json.dumps(SECTIONS)), **arrays)


main()
