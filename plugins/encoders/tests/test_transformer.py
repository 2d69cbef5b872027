"""The Transformer encoder against PyTorch's own layers, and what it promises whatever its options."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sonant_encoders.transformer.config import TransformerConfig
from sonant_encoders.transformer.model import Transformer, TransformerLayer

F = 12
SMALL: dict[str, Any] = {"n_layers": 2, "d_model": 16, "n_heads": 4, "d_ff": 24, "subsampling_conv_channels": 4}
OPTIONS: list[dict[str, Any]] = [
    {"norm": norm, "activation": activation} for norm in ("pre", "post") for activation in ("relu", "gelu")
] + [{"norm": "pre", "use_bias": False, "activation": "silu"}, {"subsampling": "dw_striding", "subsampling_factor": 8}]


def build(**options: Any) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(**SMALL | options), d_in=F).double().eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return model


def features(*sizes: int) -> Tensor:
    return torch.randn(*sizes, F, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def theirs(layer: TransformerLayer, config: TransformerConfig) -> nn.TransformerEncoderLayer:
    """PyTorch's layer with the same weights."""
    activation = {"relu": "relu", "gelu": "gelu", "silu": nn.functional.silu}[config.activation]
    found = nn.TransformerEncoderLayer(
        config.d_model,
        config.n_heads,
        config.d_ff or 4 * config.d_model,
        activation=activation,  # type: ignore[arg-type]
        batch_first=True,
        norm_first=config.norm == "pre",
        dtype=torch.float64,
    )
    attention, forward = layer.attention, layer.feed_forward
    with torch.no_grad():
        for kind in ("weight", "bias"):
            projections = [getattr(p, kind) for p in (attention.query, attention.key, attention.value)]
            if projections[0] is None:
                projections = [torch.zeros(config.d_model)] * 3
            getattr(found.self_attn, f"in_proj_{kind}").copy_(torch.cat(projections))
            pairs = [
                (found.self_attn.out_proj, attention.out),
                (found.linear1, forward.linear1),
                (found.linear2, forward.linear2),
                (found.norm1, layer.norm_attention),
                (found.norm2, layer.norm_feed_forward),
            ]
            for their_module, our_module in pairs:
                ours = getattr(our_module, kind)
                getattr(their_module, kind).copy_(torch.zeros(()) if ours is None else ours)
    return found.eval()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_layers_are_pytorchs(options: dict[str, Any]) -> None:
    """With padding that they ignore, outputs and gradients of the input."""
    model = build(**options)
    layer = model.layers[0]
    assert isinstance(layer, TransformerLayer)
    valid = torch.arange(11) < torch.tensor([11, 6, 1])[:, None]
    x = torch.randn(3, 11, 16, dtype=torch.float64, requires_grad=True)
    ours = layer(x, valid[:, None, None, :])[valid]
    wanted = theirs(layer, model.config)(x, src_key_padding_mask=~valid)[valid]
    torch.testing.assert_close(ours, wanted, atol=1e-10, rtol=1e-10)
    weights = torch.randn_like(ours)
    gradients = [torch.autograd.grad((out * weights).sum(), x)[0] for out in (ours, wanted)]
    torch.testing.assert_close(*gradients, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@torch.no_grad()
def test_the_whole_is_subsampling_and_positions_and_layers(options: dict[str, Any]) -> None:
    """Vaswani et al.: the embedding times the root of the width, plus sinusoids; with pre-norm a norm at the end."""
    model = build(**options)
    feats, lens = features(1, 50), torch.tensor([50])
    found, counts = model(feats, lens)
    x, sizes = model.pre_encode(feats, lens)
    assert counts.tolist() == sizes.tolist() == [found.shape[1]]
    for t in range(x.shape[1]):
        for n in range(16):
            angle = t / 10000 ** (n // 2 * 2 / 16)
            x[0, t, n] = 4 * x[0, t, n] + (math.sin(angle) if n % 2 == 0 else math.cos(angle))
    for layer in model.layers:
        x = theirs(layer, model.config)(x)  # type: ignore[arg-type]
    if options.get("norm", "pre") == "pre":
        x = nn.functional.layer_norm(x, (16,), model.norm.weight, model.norm.bias)  # type: ignore[arg-type]
    torch.testing.assert_close(found, x, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("grad", [False, True])
def test_alone_and_among_others_and_with_any_padding(options: dict[str, Any], grad: bool) -> None:
    model = build(**options)
    lens = torch.tensor([64, 90, 33, 1, 0, 8])
    feats = features(len(lens), 90)
    dirty = feats.masked_fill((torch.arange(90) >= lens[:, None])[..., None], 1e4)
    with torch.set_grad_enabled(grad):
        together, counts = model(feats, lens)
        assert together.isfinite().all()
        for found, _ in (model(dirty, lens), model(nn.functional.pad(dirty, (0, 0, 0, 30), value=7.0), lens)):
            for ours, wanted, count in zip(found, together, counts, strict=True):
                torch.testing.assert_close(ours[:count], wanted[:count], atol=1e-9, rtol=1e-9)
        for n, length in enumerate(lens):
            alone, count = model(feats[n : n + 1, :length], lens[n : n + 1])
            assert count == counts[n]
            torch.testing.assert_close(alone[0, :count], together[n, :count], atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@torch.no_grad()
def test_bfloat16_is_finite_and_near(options: dict[str, Any]) -> None:
    model = build(**options).float()
    feats, lens = features(2, 60).float(), torch.tensor([60, 31])
    exact, counts = model(feats, lens)
    found, _ = model.to(torch.bfloat16)(feats, lens)
    assert found.dtype == torch.bfloat16 and found.isfinite().all()
    for ours, wanted, count in zip(found, exact, counts, strict=True):
        assert (ours[:count].float() - wanted[:count]).norm() / wanted[:count].norm() < 0.05


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradients_reach_every_parameter(options: dict[str, Any]) -> None:
    model = build(**options)
    out, _ = model(features(2, 50), torch.tensor([50, 29]))
    (out * torch.randn_like(out)).sum().backward()
    # A bias of the keys adds the same to all scores of a query: softmax does not see it.
    without = [n for n, p in model.named_parameters() if p.grad is None or (not p.grad.any() and not n.endswith("key.bias"))]
    assert without == []


def test_dropout_in_training_only() -> None:
    model = build(dropout=0.5)
    feats, lens = features(1, 40), torch.tensor([40])
    with torch.no_grad():
        assert torch.equal(model(feats, lens)[0], model(feats, lens)[0])
        model.train()
        torch.manual_seed(3)
        first = model(feats, lens)[0]
        assert not torch.equal(model(feats, lens)[0], first)
        torch.manual_seed(3)
        assert torch.equal(model(feats, lens)[0], first)


def test_feed_forward_is_four_times_as_wide_unless_told() -> None:
    assert build(d_ff=None).layers[0].feed_forward.linear1.out_features == 64
    assert build(d_ff=24).layers[0].feed_forward.linear1.out_features == 24


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_heads": 3}, "n_heads 3 does not divide d_model 16"),
        ({"subsampling_factor": 3}, "subsampling_factor 3 is not a power of two from 2 on"),
        ({"subsampling_factor": 1}, "subsampling_factor 1 is not a power of two from 2 on"),
    ],
    ids=str,
)
def test_impossible_configs_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TransformerConfig(**SMALL | options)
