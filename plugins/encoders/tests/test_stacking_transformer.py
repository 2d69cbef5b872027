"""The Transformer encoder on stacked frames: NeMo's numbers for all options, and configs and tensors to NeMo's form and back."""

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
from sonant.errors import CheckpointError, ConfigError, UnknownName
from sonant.nemo import NemoSection
from sonant_encoders.stacking_transformer.config import StackingTransformerConfig
from sonant_encoders.stacking_transformer.model import StackingTransformer
from sonant_encoders.stacking_transformer.nemo import MAPPING, read, write

GOLDEN = np.load(Path(__file__).parent / "data" / "stacking_transformer.npz")
SECTIONS: dict[str, dict[str, Any]] = json.loads(str(GOLDEN["sections"]))
NAMES = list(SECTIONS)


def read_whole(values: dict[str, Any]) -> StackingTransformerConfig:
    """The config of a NeMo section of which nothing is left over."""
    section = NemoSection({k: v for k, v in values.items() if k != "_target_"}, "encoder")
    config = fill(StackingTransformerConfig, read(section), "encoder")
    section.finish()
    return config


def their_name(name: str, options: dict[str, Any]) -> str:
    """NeMo's name for our tensor, which exactly one row of the table gives, and takes back."""
    assert callable(MAPPING.tensors)
    (row,) = [row for row in MAPPING.tensors(read(NemoSection(options, ""))) if row.write(name) is not None]
    theirs = str(row.write(name))
    assert row.read(theirs) == name and row.shape == "same"
    return theirs


def draw(name: str, shape: tuple[int, ...]) -> Tensor:
    """As `data/make_stacking_transformer.py` draws the weights."""
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if len(shape) == 1 and name.endswith("weight"):
        values = 1 + 0.1 * values
    elif len(shape) > 1 and "pos_bias" not in name:
        values = values / np.prod(shape[1:]) ** 0.5
    return torch.tensor(values, dtype=torch.float32)


def build(name: str, **changes: Any) -> StackingTransformer:
    options = SECTIONS[name]
    config = fill(StackingTransformerConfig, read(NemoSection(options, "encoder")) | changes, "encoder")
    model = StackingTransformer(config, d_in=options["feat_in"])
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            tensor.copy_(draw(their_name(key, options), tuple(tensor.shape)))
    return model.eval()


def features() -> Tensor:
    """`(B, T, F)`"""
    return torch.tensor(np.random.default_rng(0).standard_normal((2, 12, 71)), dtype=torch.float32).transpose(1, 2)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_outputs_are_nemos(name: str) -> None:
    """Whatever lies in the padding."""
    own = SECTIONS[name].get("subsampling", "feature_stacking") == "feature_stacking"
    lens = torch.tensor([71, 43 if own else 71])
    enc, enc_lens = build(name)(features(), lens)
    theirs = torch.from_numpy(GOLDEN[f"enc_{name}"]).transpose(1, 2)
    assert enc_lens.tolist() == GOLDEN[f"lens_{name}"].tolist() and enc.shape == theirs.shape
    for ours, reference, length in zip(enc, theirs, enc_lens, strict=True):
        assert (ours[:length] - reference[:length]).norm() / reference[:length].norm() < 1e-5


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_alone_and_among_others(name: str) -> None:
    model, feats = build(name).double(), features().double()
    lens = torch.tensor([71, 38])
    together, counts = model(feats, lens)
    for row, length in enumerate(lens.tolist()):
        alone, count = model(feats[row : row + 1, :length], lens[row : row + 1])
        assert count == counts[row] == -(-length // model.subsampling)
        torch.testing.assert_close(alone[0], together[row, : int(count)], atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name", [name for name in NAMES if "causal" in name])
@torch.no_grad()
def test_causal_frames_do_not_depend_on_later_ones(name: str) -> None:
    model, feats, lens = build(name), features()[:1], torch.tensor([71])
    changed = feats.clone()
    changed[:, 36:] += 1.0
    ours, theirs = model(feats, lens)[0], model(changed, lens)[0]
    first = 36 // model.subsampling
    assert torch.equal(ours[:, :first], theirs[:, :first]) and not torch.allclose(ours[:, first], theirs[:, first])


@pytest.mark.parametrize("backend", ["reference", "sdpa"])
@torch.no_grad()
def test_the_backend_is_the_one_asked_for(backend: str) -> None:
    exact, lens = build("relative_causal")(features(), torch.tensor([71, 43]))
    found, _ = build("relative_causal", attention_backend=backend)(features(), torch.tensor([71, 43]))
    for ours, theirs, length in zip(found, exact, lens, strict=True):
        torch.testing.assert_close(ours[:length], theirs[:length], atol=1e-5, rtol=1e-5)
    with pytest.raises(UnknownName, match="quick"):
        build("relative", attention_backend="quick")(features(), torch.tensor([71, 43]))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name: str) -> None:
    model = build(name)
    out, _ = model(features(), torch.tensor([71, 43]))
    (out * torch.randn_like(out, dtype=torch.float32)).sum().backward()
    assert [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_reads_as_it_was(name: str) -> None:
    config = read_whole(SECTIONS[name])
    written = write(config, d_in=12)
    assert (written["_target_"], written["feat_in"]) == ("nemo.collections.asr.modules.TransformerEncoder", 12)
    assert read_whole(written) == config


def test_the_smallest_section_means_nemos_defaults() -> None:
    assert read_whole({}) == StackingTransformerConfig()


def test_what_does_not_change_the_result_is_reported_as_dropped() -> None:
    section = NemoSection({"pos_emb_max_len": 5000, "dropout_emb": 0.1, "sync_max_audio_length": True}, "encoder")
    read(section)
    assert sorted(section.finish()) == ["encoder.dropout_emb", "encoder.pos_emb_max_len", "encoder.sync_max_audio_length"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attn_mode": "lookahead"}, r"encoder\.attn_mode: .*'lookahead'"),
        ({"self_attention_model": "rel_pos_local_attn"}, r"encoder\.self_attention_model: .*'rel_pos_local_attn'"),
        ({"subsampling": "striding"}, r"encoder\.subsampling: .*'striding'"),
        ({"n_heads": 7}, "n_heads 7 does not divide d_model 512"),
        ({"subsampling_factor": 0}, "subsampling_factor 0 must be at least 1"),
        ({"ff_expansion": 0.001}, r"ff_expansion 0\.001 leaves no feed-forward width"),
        ({"frobnicate": 1}, r"keys that Sonant does not know: encoder\.frobnicate"),
    ],
    ids=str,
)
def test_what_is_not_supported_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises((CheckpointError, ConfigError), match=message):
        read_whole(options)
