"""Linear adapters behind the blocks of a Conformer; NeMo's numbers are compared in `tests/test_nemo_fidelity.py`."""

from __future__ import annotations

import itertools
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sonant.config import fill_section
from sonant.errors import CheckpointError, ConfigError
from sonant.nemo import NemoSection
from sonant_encoders.blocks.adapter import LinearAdapter
from sonant_encoders.conformer import huggingface
from sonant_encoders.conformer.config import FastConformerConfig, LinearAdapterConfig
from sonant_encoders.conformer.model import Conformer
from sonant_encoders.conformer.nemo import MAPPING, read, write

SMALL: dict[str, Any] = {"n_layers": 2, "d_model": 16, "n_heads": 2, "subsampling_conv_channels": 4}
LINEAR = "nemo.collections.common.parts.adapter_modules.LinearAdapter"
TWO = {"one": LinearAdapterConfig(dim=3), "two": LinearAdapterConfig(dim=5, activation="relu", norm_position="post")}


def encoder(adapters: dict[str, LinearAdapterConfig], **fields: Any) -> Conformer:
    """With the same weights whatever the adapters, and adapters that do something."""
    torch.manual_seed(0)
    bare = Conformer(FastConformerConfig(**SMALL, **fields), d_in=16).eval()
    made = Conformer(FastConformerConfig(**SMALL, **fields, adapters=adapters), d_in=16).eval()
    made.load_state_dict(bare.state_dict(), strict=False)
    for name, parameter in made.named_parameters():
        if ".adapters." in name:
            nn.init.normal_(parameter, std=0.5)
    return made


def frames(count: int = 100) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(2, count, 16), torch.tensor([count, count - 30])


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("swish", lambda x: x * torch.sigmoid(x)),
        ("silu", lambda x: x * torch.sigmoid(x)),
        ("relu", lambda x: x.clamp(min=0)),
        ("identity", lambda x: x),
        ("hardtanh", lambda x: x.clamp(-1, 1)),
        ("selu", functional.selu),
        ("gelu", functional.gelu),
    ],
)
def test_the_formula(norm: Any, activation: str, function: Any) -> None:
    adapter = LinearAdapter(6, 4, activation=activation, norm=norm).double()
    for parameter in adapter.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(3, 5, 6, dtype=torch.float64)

    def normalized(x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * adapter.norm.weight + adapter.norm.bias

    inside = function((normalized(x) if norm == "pre" else x) @ adapter.down.weight.T) @ adapter.up.weight.T
    assert torch.allclose(adapter(x), x + (inside if norm == "pre" else normalized(inside)), atol=1e-12)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_at_the_start_it_adds_nothing_and_all_of_it_learns(norm: Any) -> None:
    torch.manual_seed(0)
    adapter, x, target = LinearAdapter(6, 4, norm=norm), torch.randn(30, 6), torch.randn(30, 6)
    assert torch.equal(adapter(x), x)
    before = {name: parameter.clone() for name, parameter in adapter.named_parameters()}
    optimizer = torch.optim.SGD(adapter.parameters(), lr=0.1)
    for _ in range(4):
        optimizer.zero_grad()
        (adapter(x) - target).square().mean().backward()
        optimizer.step()
    assert all(not torch.equal(parameter, before[name]) for name, parameter in adapter.named_parameters())


def test_they_stand_behind_every_block_in_their_order() -> None:
    made = encoder(TWO)
    first = made.layers[0]
    seen = []
    for module in (first.norm_out, first.adapters["one"], first.adapters["two"]):
        module.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    made(*frames())
    assert [torch.equal(out, into) for (_, out), (into, _) in itertools.pairwise(seen)] == [True, True]


@torch.inference_mode()
def test_what_is_off_is_not_used() -> None:
    off = {name: attrs.evolve(adapter, enabled=False) for name, adapter in TWO.items()}
    none, one, both = (encoder(adapters)(*frames())[0] for adapters in ({}, TWO | {"two": off["two"]}, TWO))
    assert torch.equal(encoder(off)(*frames())[0], none)
    assert not torch.allclose(one, none, atol=1e-2) and not torch.allclose(one, both, atol=1e-2)


@torch.inference_mode()
def test_streams_are_adapted_as_the_whole_is() -> None:
    causal = {"causal_downsampling": True, "conv_context_size": "causal", "conv_norm_type": "layer_norm"}
    made = encoder(TWO, **causal, att_context_size=[8, 1], att_context_style="chunked_limited")
    feats = frames()[0][:1]
    states, found = [made.init_state()], []
    for start in range(0, 100, 30):
        piece = feats[:, start : start + 30]
        out, lens, states = made.step(piece, torch.tensor([piece.shape[1]]), states, last=[start == 90])
        found.append(out[:, : int(lens)])
    assert torch.allclose(torch.cat(found, dim=1), made(feats, torch.tensor([100]))[0], atol=1e-5)


@pytest.mark.parametrize(
    ("adapters", "message"),
    [
        ({"a": {"dim": 0}}, "dim must be at least 1"),
        ({"a": {"dim": 4, "dropout": 1.0}}, r"dropout in \[0, 1\)"),
        ({"a": {"dim": 4, "activation": "tanh"}}, "activation 'tanh' is not one of identity, hardtanh"),
        ({"a": {"dim": 4, "norm_position": "both"}}, "norm_position"),
        ({"a.b": {"dim": 4}}, "'a.b' is no name for one"),
        ({"a": {"width": 4}}, "Did you mean|unknown key"),
        ({"a": {}}, "value is required"),
    ],
)
def test_mistakes_are_told(adapters: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fill_section("encoder", {"name": "fastconformer", **SMALL, "adapters": adapters}, "encoder")


# --- NeMo


def test_what_is_written_is_read_back() -> None:
    config = FastConformerConfig(**SMALL, adapters=TWO | {"off": LinearAdapterConfig(dim=2, dropout=0.1, enabled=False)})
    values = write(config, d_in=16)
    assert values.pop("_target_").endswith("conformer_encoder.ConformerEncoderAdapter")
    assert values["adapters"]["two"]["_target_"] == LINEAR and values["adapters"]["two"]["in_features"] == 16
    section = NemoSection(values, "encoder")
    assert fill_section("encoder", read(section), "encoder").config == config
    section.finish()
    assert "adapters" not in write(FastConformerConfig(**SMALL), d_in=16)


def test_every_tensor_has_one_name_in_nemo() -> None:
    config = FastConformerConfig(**SMALL, adapters=TWO)
    assert callable(MAPPING.tensors)
    rows = MAPPING.tensors({"adapters": {name: attrs.asdict(adapter) for name, adapter in TWO.items()}})
    names = {name for name in Conformer(config, d_in=16).state_dict() if ".adapters." in name}
    written = {name: [row.write(name) for row in rows if row.write(name) is not None] for name in names}
    assert {name: [row.read(theirs) for row in rows if row.read(theirs)] for name, (theirs,) in written.items()} == {
        name: [name] for name in names
    }
    theirs = {row[0] for row in written.values()}
    assert {f"layers.1.adapter_layer.one.module.{n}.weight" for n in (0, 1, 3)} <= theirs  # norm, down, activation, up
    assert {f"layers.1.adapter_layer.two.module.{n}.weight" for n in (0, 2, 3)} <= theirs  # down, activation, up, norm
    assert "layers.0.adapter_layer.two.module.3.bias" in theirs and len(theirs) == len(names) == 2 * 2 * 4


def test_transformers_knows_none() -> None:
    with pytest.raises(CheckpointError, match="knows no Conformer with .*adapters: one, two"):
        huggingface.write(FastConformerConfig(**SMALL, adapters=TWO), d_in=16)


@pytest.mark.parametrize(
    ("adapters", "message"),
    [
        (
            {"a": {"_target_": "nemo.x.RelPositionMultiHeadAttentionAdapter"}},
            r"encoder\.adapters\.a\._target_ is '.*supported: .*LinearAdapter",
        ),
        ({"a": {"_target_": LINEAR, "dim": 4, "adapter_strategy": {"_target_": "os.system"}}}, "adapter_strategy is 'os.system'"),
        (
            {"a": {"_target_": LINEAR, "dim": 4}, "global_cfg": {"adapter_meta_cfg": {"modules": {"a": "decoder"}}}},
            "the adapter 'a' is one of decoder: only those of the encoder",
        ),
        ({"a": {"_target_": LINEAR}}, r"lacks encoder\.adapters\.a\.dim"),
        ({"a": {"_target_": LINEAR, "dim": 4, "depth": 2}}, r"does not know: encoder\.adapters\.a\.depth"),
    ],
)
def test_others_are_refused(adapters: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read(NemoSection({"n_layers": 1, "d_model": 16, "adapters": adapters}, "encoder"))
