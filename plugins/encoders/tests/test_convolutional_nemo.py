"""Convolutional encoders' configs and tensors to NeMo's form and back, and its numbers for what small checkpoints do not have."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sonant.config import fill
from sonant.errors import CheckpointError, ConfigError
from sonant.nemo import NemoSection
from sonant_encoders.convolutional.config import BlockConfig, ConvolutionalConfig
from sonant_encoders.convolutional.model import Convolutional
from sonant_encoders.convolutional.nemo import MAPPING, read, write

GOLDEN = np.load(Path(__file__).parent / "data" / "convolutional.npz")
SECTIONS = json.loads(str(GOLDEN["sections"]))
BLOCK = {"filters": 8, "repeat": 1, "kernel": [3], "stride": [1], "dilation": [1], "dropout": 0.0, "residual": False}


def read_whole(values: dict[str, Any]) -> ConvolutionalConfig:
    """The config of a NeMo section of which nothing is left over."""
    section = NemoSection({k: v for k, v in values.items() if k != "_target_"}, "encoder")
    config = fill(ConvolutionalConfig, read(section), "encoder")
    section.finish()
    return config


def read_block(**options: Any) -> BlockConfig:
    return read_whole({"activation": "relu", "jasper": [BLOCK | options]}).blocks[0]


def their_name(name: str) -> str:
    """NeMo's name for our tensor, which exactly one row of the table gives, and takes back."""
    assert isinstance(MAPPING.tensors, tuple)
    (row,) = [row for row in MAPPING.tensors if row.write(name) is not None]
    theirs = str(row.write(name))
    assert row.read(theirs) == name and row.shape == "same"
    return theirs


# --- Numbers


def draw(name: str, shape: tuple[int, ...]) -> Tensor:
    """As `data/make_convolutional.py` draws the weights."""
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("running_var"):
        values = 0.5 + abs(values)
    elif len(shape) == 1 and name.endswith("weight"):
        values = 1 + 0.1 * values
    elif len(shape) > 1:
        values = values / np.prod(shape[1:]) ** 0.5
    return torch.tensor(values, dtype=torch.float32)


def with_drawn_weights(config: ConvolutionalConfig, d_in: int) -> Convolutional:
    model = Convolutional(config, d_in=d_in)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(draw(their_name(name), tuple(tensor.shape)))
    return model.eval()


@pytest.mark.parametrize("name", list(SECTIONS))
def test_outputs_are_nemos(name: str) -> None:
    options = SECTIONS[name]
    model = with_drawn_weights(read_whole(options), options["feat_in"])
    feats = np.random.default_rng(0).standard_normal((2, options["feat_in"], 70))
    x = torch.tensor(feats, dtype=torch.float32).transpose(1, 2)
    lens = torch.tensor([70, 43 if "normalization_mode" not in options else 70])
    theirs, their_lens = torch.from_numpy(GOLDEN[f"enc_{name}"]).transpose(1, 2), GOLDEN[f"lens_{name}"]
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            enc, enc_lens = model(x, lens)
        assert enc_lens.tolist() == their_lens.tolist() and enc.shape == theirs.shape
        for ours, reference, length in zip(enc, theirs, enc_lens, strict=True):
            assert (ours[:length] - reference[:length]).norm() / reference[:length].norm() < 1e-5


# --- Configs


@pytest.mark.parametrize("name", list(SECTIONS))
def test_what_is_written_reads_as_it_was(name: str) -> None:
    config = read_whole(SECTIONS[name])
    written = write(config, d_in=12)
    assert (written["_target_"], written["feat_in"]) == ("nemo.collections.asr.modules.ConvASREncoder", 12)
    assert read_whole(written) == config


def test_every_field_is_written() -> None:
    """With a value for each that is not its default, so that one left out would show."""
    block = BlockConfig(
        filters=16, kernel=5, repeat=2, stride=2, stride_last=True, groups=4, separable=True, residual=True,
        residual_mode="stride_add", se=True, se_reduction_ratio=4, se_context_size=64, future_context=1, dropout=0.3,
    )  # fmt: skip
    dense = BlockConfig(filters=8, kernel=3, residual=True, residual_dense=True, residual_mode="max")
    wide = BlockConfig(filters=8, kernel=3, dilation=2)
    config = ConvolutionalConfig(blocks=[block, dense, wide], activation="selu", normalization="group", norm_groups=2)
    assert read_whole(write(config, d_in=12)) == config


def test_the_smallest_section_means_nemos_defaults() -> None:
    config = read_whole({"feat_in": 80, "activation": "relu", "jasper": [BLOCK]})
    assert config == ConvolutionalConfig(blocks=[BlockConfig(filters=8, kernel=3)])


def test_a_residual_mode_holds_for_the_blocks_behind_it() -> None:
    blocks = [BLOCK, BLOCK | {"residual_mode": "stride_add"}, BLOCK, BLOCK | {"residual_mode": "add"}, BLOCK]
    config = read_whole({"activation": "relu", "residual_mode": "max", "jasper": blocks})
    assert [b.residual_mode for b in config.blocks] == ["max", "stride_add", "stride_add", "add", "add"]


@pytest.mark.parametrize(
    ("kernel", "factor", "expected"), [(11, 0.25, 3), (11, 0.4, 5), (1, 0.1, 1), (12, 1.0, 13), (5, 1.3, 7), (41, 1, 41)]
)
def test_kernel_size_factor(kernel: int, factor: float, expected: int) -> None:
    """Rounded down, at least 1, and up to the next odd number."""
    assert read_block(kernel=[kernel], kernel_size_factor=factor).kernel == expected


def test_what_does_not_change_the_result_is_reported_as_dropped() -> None:
    blocks = [BLOCK | {"se_interpolation_mode": "nearest"}]
    section = NemoSection({"activation": "relu", "jasper": blocks, "init_mode": "xavier_uniform", "quantize": False}, "encoder")
    read(section)
    assert sorted(section.finish()) == [
        "encoder.init_mode",
        "encoder.jasper[0].se_interpolation_mode",
        "encoder.quantize",
    ]


@pytest.mark.parametrize(
    ("options", "block", "message"),
    [
        ({"conv_mask": False}, {}, r"encoder\.conv_mask is False, which Sonant does not support; supported: True"),
        ({"frame_splicing": 2}, {}, r"encoder\.frame_splicing is 2"),
        ({"frobnicate": 2}, {}, r"keys that Sonant does not know: encoder\.frobnicate"),
        ({}, {"heads": 4}, r"encoder\.jasper\[0\]\.heads is 4, which Sonant does not support; supported: -1"),
        ({}, {"frobnicate": 2}, r"keys that Sonant does not know: encoder\.jasper\[0\]\.frobnicate"),
        ({}, {"kernel": [3, 5]}, r"encoder\.jasper\[0\]\.kernel is \[3, 5\]; a block has one"),
        ({}, {"stride": []}, r"encoder\.jasper\[0\]\.stride is \[\]; a block has one"),
        ({"jasper": [{"filters": 8}]}, {}, r"the NeMo config lacks encoder\.jasper\[0\]\.repeat"),
        ({"jasper": [3]}, {}, r"encoder\.jasper\[0\] in the NeMo config is 3, not a section"),
    ],
    ids=str,
)
def test_what_is_not_supported_is_refused(options: dict[str, Any], block: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_whole({"activation": "relu", "jasper": [BLOCK | block]} | options)


@pytest.mark.parametrize(
    ("options", "block", "message"),
    [
        ({"activation": "tanh"}, {}, r"encoder\.activation: .*'tanh'"),
        ({"normalization_mode": "weight"}, {}, r"encoder\.normalization: .*'weight'"),
        ({}, {"residual_mode": "multiply"}, r"encoder\.blocks\[0\]\.residual_mode: .*'multiply'"),
        ({}, {"stride": [2], "dilation": [2]}, r"encoder\.blocks\[0\]: stride 2 and dilation 2: one of them must be 1"),
    ],
    ids=str,
)
def test_impossible_values_name_their_key(options: dict[str, Any], block: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_whole({"activation": "relu", "jasper": [BLOCK | block]} | options)


# --- Tensors


def test_tensors_have_the_names_that_nemo_gives_them() -> None:
    """Convolution, norm, activation and dropout of each repetition count; branches are pairs."""
    blocks = [
        BlockConfig(filters=8, kernel=3, repeat=2, residual=True, separable=True, se=True),
        BlockConfig(filters=8, kernel=3),
    ]
    model = Convolutional(ConvolutionalConfig(blocks=blocks), d_in=12)
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = {f"encoder.0.mconv.{n}.conv.weight" for n in (0, 1, 5, 6)} | {"encoder.1.mconv.0.conv.weight"}
    expected |= {f"encoder.0.mconv.{n}.{name}" for n in (2, 7) for name in norm} | {f"encoder.1.mconv.1.{name}" for name in norm}
    expected |= {"encoder.0.mconv.8.fc.0.weight", "encoder.0.mconv.8.fc.2.weight", "encoder.0.res.0.0.conv.weight"}
    expected |= {f"encoder.0.res.0.1.{name}" for name in norm}
    assert {their_name(name) for name in model.state_dict()} == expected
