"""Conformer configs and tensors to NeMo's form and back, and NeMo's numbers for options that small checkpoints do not have."""

from __future__ import annotations

import json
import re
import zlib
from itertools import product
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor

from sonant.config import Section, fill_section
from sonant.errors import CheckpointError, ConfigError
from sonant.nemo import NemoSection, Rename
from sonant_encoders.conformer.config import ConformerConfig, FastConformerConfig
from sonant_encoders.conformer.model import Conformer
from sonant_encoders.conformer.nemo import MAPPING, read, write

GOLDEN = np.load(Path(__file__).parent / "data" / "conformer.npz")
SECTIONS = json.loads(str(GOLDEN["sections"]))
SMALL: dict[str, Any] = {"n_layers": 2, "d_model": 16, "n_heads": 2, "conv_kernel_size": 5, "subsampling_conv_channels": 4}
CAUSAL: dict[str, Any] = {"causal_downsampling": True, "conv_context_size": "causal"}

CONFIGS: list[ConformerConfig] = [
    ConformerConfig(),
    FastConformerConfig(),
    *(
        cls(subsampling=kind, subsampling_factor=factor, subsampling_conv_channels=channels)  # type: ignore[arg-type]
        for cls, kind in ((ConformerConfig, "striding"), (FastConformerConfig, "dw_striding"))
        for factor, channels in product((2, 4, 8), (None, 64))
    ),
    *(
        FastConformerConfig(conv_norm_type=norm, use_bias=bias)
        for norm, bias in product(("layer_norm", "group_norm8"), (True, False))
    ),
    FastConformerConfig(att_context_size=[70, 13], att_context_style="chunked_limited", conv_norm_type="layer_norm", **CAUSAL),
    FastConformerConfig(
        att_context_size=[[70, 13], [70, 6], [70, 1], [70, 0]],
        att_context_style="chunked_limited",
        att_context_probs=[0.4, 0.3, 0.2, 0.1],
    ),
    FastConformerConfig(att_context_size=[-1, -1, -1], att_context_style="chunked_limited_with_rc"),
    ConformerConfig(att_context_size=[128, 64], conv_context_size=[20, 10], xscaling=False, untie_biases=False, feat_out=256),
    FastConformerConfig(self_attention_model="rel_pos_local_attn", att_context_size=[128, 64]),
    FastConformerConfig(
        self_attention_model="rel_pos_local_attn",
        att_context_size=[128, 128],
        global_tokens=4,
        global_tokens_spacing=100,
        global_attn_separate=True,
    ),
    ConformerConfig(dropout=0.2, dropout_pre_encoder=0.0, stochastic_depth_drop_prob=0.3, stochastic_depth_mode="uniform"),
]


def read_whole(values: dict[str, Any]) -> Section:
    """The encoder of a NeMo section of which nothing is left over."""
    section = NemoSection({k: v for k, v in values.items() if k != "_target_"}, "encoder")
    ours = fill_section("encoder", read(section), "encoder")
    section.finish()
    return ours


def tables() -> tuple[Rename, ...]:
    assert callable(MAPPING.tensors)
    return MAPPING.tensors({})


def row_for(name: str) -> Rename:
    """The one row of the table that speaks of our tensor `name`."""
    (row,) = [row for row in tables() if row.write(name) is not None]
    return row


# --- Numbers


def draw(name: str, shape: tuple[int, ...]) -> Tensor:
    """As `data/make_conformer.py` draws the weights."""
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("running_var"):
        values = 0.5 + abs(values)
    elif "norm" in name and name.endswith("weight"):
        values = 1 + 0.1 * values
    else:
        values = values / max(1, np.prod(shape[1:])) ** 0.5
    return torch.tensor(values, dtype=torch.float32)


def with_drawn_weights(model: Conformer) -> Conformer:
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                row = row_for(name)
                theirs = str(row.write(name))
                tensor.copy_(row.to_ours(draw(theirs, tuple(row.to_theirs(tensor).shape))))
    return model


@pytest.mark.parametrize(
    "number", range(len(SECTIONS)), ids=lambda n: re.sub(r"[^\w,-]+", "", str(list(SECTIONS[n].values())[7:]))[:50]
)
def test_outputs_are_nemos(number: int) -> None:
    options = dict(SECTIONS[number])
    chosen = options.pop("run", None) or options.pop("window", None)
    model = with_drawn_weights(Conformer(read_whole(options).config, d_in=options["feat_in"])).eval()
    feats = torch.tensor(np.random.default_rng(0).standard_normal((2, options["feat_in"], 90)), dtype=torch.float32).transpose(
        1, 2
    )
    lens = torch.tensor([90, 90 if "group" in options.get("conv_norm_type", "") else 61])
    theirs, their_lens = torch.from_numpy(GOLDEN[f"enc_{number}"]).transpose(1, 2), GOLDEN[f"lens_{number}"]
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            enc, enc_lens = model(feats, lens, att_context_size=chosen)
        assert enc_lens.tolist() == their_lens.tolist()
        for ours, reference, length in zip(enc, theirs, enc_lens, strict=True):
            assert (ours[:length] - reference[:length]).norm() / reference[:length].norm() < 1e-5


# --- Configs


@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
def test_what_is_written_reads_as_it_was(config: ConformerConfig) -> None:
    found = read_whole(write(config, d_in=80))
    assert found.name == ("fastconformer" if config.subsampling == "dw_striding" else "conformer")
    assert attrs.asdict(found.config) == attrs.asdict(config)


def test_the_smallest_section_means_nemos_defaults() -> None:
    found = read_whole({"feat_in": 80, "n_layers": 2, "d_model": 64})
    assert found.name == "conformer"
    config = found.config
    assert (config.subsampling_factor, config.n_heads, config.conv_kernel_size, config.xscaling) == (4, 4, 31, True)
    assert config.contexts == [[-1, -1]] and config.subsampling_conv_channels is None


@pytest.mark.parametrize("value", [None, [], [-1, -1]])
def test_no_context_is_all_context(value: Any) -> None:
    assert read_whole({"n_layers": 2, "d_model": 64, "att_context_size": value}).config.contexts == [[-1, -1]]


def test_a_feat_out_that_is_the_width_needs_no_projection() -> None:
    assert read_whole({"n_layers": 2, "d_model": 64, "feat_out": 64}).config.feat_out is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"self_attention_model": "abs_pos"},
            r"encoder\.self_attention_model is 'abs_pos', .* supported: 'rel_pos', 'rel_pos_local_attn'",
        ),
        (
            {"conv_context_style": "dcc"},
            r"encoder\.conv_context_style is 'dcc', which Sonant does not support; supported: 'regular'",
        ),
        ({"reduction": "pooling"}, r"encoder\.reduction is 'pooling', which Sonant does not support"),
        ({"frobnicate": 1}, r"keys that Sonant does not know: encoder\.frobnicate"),
    ],
)
def test_what_is_not_supported_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_whole({"n_layers": 2, "d_model": 64} | values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"subsampling": "vggnet"}, r"encoder\.subsampling: .*'vggnet'.*"),
        ({"subsampling": "stacking"}, r"encoder\.subsampling"),
        ({"att_context_size": [13, 5], "att_context_style": "chunked_limited"}, "not a whole number of chunks of 6 frames"),
        ({"self_attention_model": "rel_pos_local_attn"}, r"encoder: .* needs one att_context_size .* here it is \[-1, -1\]"),
        (
            {"self_attention_model": "rel_pos_local_attn", "att_context_size": [8, 8], "global_attn_separate": True},
            "global_attn_separate needs global_tokens",
        ),
        ({"conv_norm_type": "instance_norm"}, "'instance_norm' is not one of batch_norm, layer_norm, group_normN"),
    ],
)
def test_impossible_values_name_their_key(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_whole({"n_layers": 2, "d_model": 64} | values)


def test_global_tokens_of_full_attention_are_dropped() -> None:
    """NeMo's configs name them everywhere; they mean something in local attention alone."""
    section = NemoSection({"n_layers": 2, "d_model": 64, "global_tokens": 1, "global_tokens_spacing": 5}, "encoder")
    assert fill_section("encoder", read(section), "encoder").config.global_tokens == 0
    assert sorted(section.finish()) == ["encoder.global_tokens", "encoder.global_tokens_spacing"]


def test_a_missing_size_is_an_error_that_names_it() -> None:
    with pytest.raises((CheckpointError, ConfigError), match=r"encoder\.d_model"):
        read_whole({"n_layers": 2})


def test_what_does_not_change_the_result_is_reported_as_dropped() -> None:
    section = NemoSection(
        {"n_layers": 2, "d_model": 64, "reduction_factor": 1, "pos_emb_max_len": 5000, "use_pytorch_sdpa": True}, "encoder"
    )
    read(section)
    assert sorted(section.finish()) == ["encoder.pos_emb_max_len", "encoder.reduction_factor", "encoder.use_pytorch_sdpa"]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({}, (0.0, 0.1)),  # the defaults of NeMo's constructor
        ({"dropout_att": 0.2}, (0.2, 0.1)),
        ({"dropout_att": 0.3, "dropout_emb": 0.0}, (0.3, 0.0)),
    ],
)
def test_dropouts_within_the_attention_are_read_and_written(theirs: dict[str, float], ours: tuple[float, float]) -> None:
    config = read_whole({"n_layers": 2, "d_model": 64, **theirs}).config
    assert (config.dropout_att, config.dropout_emb) == ours
    written = write(config, 80)
    assert (written["dropout_att"], written["dropout_emb"]) == ours


# --- Tensors


@pytest.mark.parametrize(
    "config",
    [
        ConformerConfig(**SMALL),
        ConformerConfig(**SMALL, untie_biases=False, feat_out=8),
        FastConformerConfig(**SMALL, use_bias=False, conv_norm_type="layer_norm"),
        ConformerConfig(
            **SMALL,
            self_attention_model="rel_pos_local_attn",
            att_context_size=[4, 4],
            global_tokens=1,
            global_attn_separate=True,
        ),
    ],
    ids=["biases", "shared", "plain", "global"],
)
def test_every_tensor_has_one_name_in_nemo(config: ConformerConfig) -> None:
    state = Conformer(config, d_in=16).state_dict()
    theirs = {}
    for name, tensor in state.items():
        row = row_for(name)
        written = str(row.write(name))
        assert row.read(written) == name
        assert [r for r in tables() if r.read(written) is not None] == [row]
        theirs[written] = row.to_theirs(tensor)
        assert torch.equal(row.to_ours(theirs[written]), tensor)
    assert len(theirs) == len(state)
    assert theirs["layers.0.conv.pointwise_conv1.weight"].shape == (32, 16, 1)
    assert theirs["layers.1.conv.depthwise_conv.weight"].shape == (16, 1, 5)
    assert {"layers.0.self_attn.linear_pos.weight", "layers.1.norm_feed_forward2.bias", "pre_encode.out.weight"} <= set(theirs)
    assert ("layers.0.self_attn.linear_q.bias" in theirs) == config.use_bias
    assert ("layers.1.self_attn.global_q.weight" in theirs) == config.global_attn_separate
    assert ("out_proj.weight" in theirs) == (config.feat_out is not None)
