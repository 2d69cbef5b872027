"""Layers of limited attention on a long recording, block by block: the numbers are those of the whole computed at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sonant_encoders.conformer import blockwise
from sonant_encoders.conformer.config import FastConformerConfig
from sonant_encoders.conformer.model import Conformer

SMALL: dict[str, Any] = {"n_layers": 3, "d_model": 16, "n_heads": 2, "subsampling_conv_channels": 4, "conv_kernel_size": 5}


def build(**options: Any) -> Conformer:
    torch.manual_seed(0)
    model = Conformer(FastConformerConfig(**{**SMALL, **options}), d_in=8).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


CONTEXTS = [
    ({}, [6, 6]),
    ({}, [4, 0]),
    ({}, [0, 7]),
    ({"self_attention_model": "rel_pos_local_attn", "att_context_size": [5, 3]}, None),
    ({"att_context_style": "chunked_limited", "att_context_size": [8, 3]}, None),
    ({"att_context_style": "chunked_limited_with_rc", "att_context_size": [4, 3, 2]}, None),
    ({"conv_context_size": "causal", "conv_norm_type": "layer_norm", "causal_downsampling": True}, [6, 2]),
    ({"feat_out": 12, "untie_biases": False}, [6, 6]),
]


@pytest.mark.parametrize(("options", "size"), CONTEXTS, ids=str)
@pytest.mark.parametrize("lens", [[1500], [1500, 900, 1]], ids=str)
@torch.inference_mode()
def test_blocks_give_what_the_whole_gives(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], size: list[int] | None, lens: list[int]
) -> None:
    model = build(**options)
    feats, sizes = torch.randn(len(lens), max(lens), 8), torch.tensor(lens)
    whole, counts = model(feats, sizes, att_context_size=size)
    monkeypatch.setattr(blockwise, "BLOCK", 24 * len(lens))
    blocks = model._blocks(size or model.config.contexts[0])
    assert blocks is not None
    assert whole.shape[1] > 5 * blocks.frames(len(lens))
    found, again = model(feats, sizes, att_context_size=size)
    assert again.tolist() == counts.tolist()
    for row, count in enumerate(counts.tolist()):
        torch.testing.assert_close(found[row, :count], whole[row, :count], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"att_context_size": [8, -1]},
        {"conv_norm_type": "group_norm4", "att_context_size": [6, 6]},
        {"self_attention_model": "rel_pos_local_attn", "att_context_size": [4, 4], "global_tokens": 1},
    ],
    ids=str,
)
def test_what_sees_everything_is_not_cut(options: dict[str, Any]) -> None:
    model = build(**options)
    assert model._blocks(model.config.contexts[0]) is None


@torch.inference_mode()
@pytest.mark.parametrize("block", [4096, 16])
def test_progress_is_told_after_each_layer(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(blockwise, "BLOCK", block)
    told: list[float] = []
    build()(torch.randn(1, 800, 8), torch.tensor([800]), att_context_size=[4, 4], progress=told.append)
    assert told == [1 / 3, 2 / 3, 1.0]
