"""Dropout on the weights of the attention and on its positions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sonant.config import fill_section
from sonant.errors import KernelUnavailable
from sonant.mapping import ForeignSection
from sonant_encoders.blocks import context
from sonant_encoders.blocks.attention import RelPosAttention, Visibility
from sonant_encoders.blocks.dropout import Dropout, keep_mask
from sonant_encoders.blocks.global_tokens import GlobalTokens
from sonant_encoders.blocks.positions import PositionProjection
from sonant_encoders.conformer import huggingface
from sonant_encoders.conformer.config import ConformerConfig, FastConformerConfig
from sonant_encoders.conformer.model import Conformer
from sonant_encoders.kernels.rel_pos_attention import dropped, reference, whole

WIDTH, HEADS, FRAMES = 8, 2, 6
KINDS = ["whole", "window", "float64", "global tokens"]


def attention(kind: str, **options: float) -> RelPosAttention:
    torch.manual_seed(0)
    tokens = GlobalTokens(WIDTH, HEADS, count=2, spacing=3, separate=True) if kind == "global tokens" else None
    module = RelPosAttention(WIDTH, HEADS, global_tokens=tokens, **options)
    torch.nn.init.normal_(module.pos_bias_u)
    torch.nn.init.normal_(module.pos_bias_v)
    return module.to(torch.float64 if kind == "float64" else torch.float32)


def seen(kind: str, batch: int) -> Visibility:
    """Padding in every second recording, and a window."""
    valid = torch.tensor([FRAMES, FRAMES - 2]).repeat(batch // 2)
    keys = torch.stack([torch.zeros_like(valid), valid])
    if kind in ("whole", "float64"):
        return Visibility(None, keys)
    size = [3, 1]
    return Visibility(context.intervals("regular", size, 0, FRAMES, torch.device("cpu")), keys, context.reach("regular", size))


def copies(module: RelPosAttention, count: int) -> Tensor:
    x = torch.randn(2, FRAMES, WIDTH, generator=torch.Generator().manual_seed(1))
    return x.to(module.query.weight.dtype).repeat(count // 2, 1, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_over_many_draws_is_what_there_is_without(kind: str) -> None:
    """The result is linear in the weights of the attention, and a dropped weight keeps its mean."""
    count = 8000
    module = attention(kind, dropout_weights=0.4).train()
    x, visibility = copies(module, count), seen(kind, count)
    with torch.no_grad() if kind == "window" else torch.enable_grad():
        found = module(x, visibility)[0].detach().unflatten(0, (-1, 2))
    exact = module.eval()(x[:2], seen(kind, 2))[0].detach()
    error = found.std(0) / (count // 2) ** 0.5
    assert found.std(0).min() > 1e-3, "something was dropped everywhere"
    assert ((found.mean(0) - exact).abs() <= 5 * error).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_are_dropped_one_by_one_and_the_others_grow(dtype: torch.dtype) -> None:
    """With values of one, each of its own key, the result is the weights."""
    torch.manual_seed(2)
    batch, heads, frames = 500, 3, 8
    q, k = torch.randn(2, batch, frames, heads, frames, dtype=dtype, requires_grad=True)
    v = torch.eye(frames, dtype=dtype)[None, :, None, :].expand(batch, -1, heads, -1)
    p, biases = torch.randn(2 * frames - 1, heads, frames, dtype=dtype), torch.zeros(2, heads, frames, dtype=dtype)
    exact = reference.rel_pos_attention(q, k, v, p, *biases)
    found = dropped.rel_pos_attention(q, k, v, p, *biases, dropout=Dropout(0.25).train())
    kept = found != 0
    torch.testing.assert_close(found[kept], exact[kept] / 0.75, rtol=1e-4, atol=1e-6)
    assert float(kept.double().mean()) == pytest.approx(0.75, abs=4 * (0.1875 / kept.numel()) ** 0.5)
    centred = kept.double() - 0.75
    for other in (centred.roll(1, 0), centred.roll(1, 1), centred.roll(1, 2), centred.roll(1, 3)):
        assert abs(float((centred * other).mean()) / 0.1875) < 4 / kept.numel() ** 0.5, "independent along every axis"


@pytest.mark.parametrize("frames", [1, 2, 13])
@pytest.mark.parametrize("hidden", [False, True])
def test_the_gradient_written_out_is_that_of_the_formula_in_double_precision(frames: int, hidden: bool) -> None:
    torch.manual_seed(3)
    batch, heads, width = 3, 2, 5
    shapes = [(batch, frames, heads, width)] * 3 + [(2 * frames - 1, heads, width), (heads, width), (heads, width)]
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    keep = keep_mask(torch.Size((heads * batch, frames, frames)), 0.3)
    keys = torch.tensor([[0, 0, 0], [frames, max(1, frames - 1), 1]]) if hidden else None
    weights, values = reference.weighed(*inputs, keys=keys)
    kept = weights * keep.view(heads, batch, frames, frames).transpose(0, 1)
    exact = torch.einsum("bhij,bjhd->bihd", kept, values)
    towards = torch.randn_like(exact)
    true = torch.autograd.grad(exact, inputs, towards)
    away = None if keys is None else torch.where(reference.visible(None, keys, frames, frames, batch, keep.device), 0.0, -1e30)
    singles = [tensor.detach().float().requires_grad_() for tensor in inputs]
    found = whole.attend(*singles, away, keep)
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-5)
    for one, other in zip(torch.autograd.grad(found, singles, towards.float()), true, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5)


def test_a_query_that_sees_nothing_gives_nothing() -> None:
    module = attention("whole", dropout_weights=0.5).train()
    x = torch.randn(2, FRAMES, WIDTH, requires_grad=True)
    out = module(x, Visibility(None, torch.tensor([[0, 0], [FRAMES, 0]])))[0]
    torch.testing.assert_close(out[1], module.out.bias.expand(FRAMES, -1))
    out.sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_dropped_follows_from_the_seed(kind: str) -> None:
    module = attention(kind, dropout_weights=0.4, dropout_positions=0.4).train()
    x, visibility = copies(module, 2), seen(kind, 2)
    found = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        found.append(module(x, visibility)[0])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_positions_keep_their_mean_and_are_never_remembered_dropped() -> None:
    torch.manual_seed(4)
    projection = PositionProjection(12, dropout=0.3).train()
    with torch.no_grad():
        draws = torch.stack([projection.table(4, 3) for _ in range(4000)])
        exact = projection.eval().table(4, 3)
    plain = PositionProjection(12)
    plain.load_state_dict(projection.state_dict())
    torch.testing.assert_close(exact, plain.table(4, 3))
    assert draws.std(0).min() > 1e-3
    assert ((draws.mean(0) - exact).abs() <= 5 * draws.std(0) / 4000**0.5).all()


SMALL: dict[str, Any] = {"n_layers": 2, "d_model": 16, "n_heads": 2, "subsampling_conv_channels": 8, "conv_kernel_size": 9}


@pytest.mark.parametrize("config", [ConformerConfig, FastConformerConfig])
@pytest.mark.parametrize("field", ["dropout_att", "dropout_emb"])
def test_an_encoder_drops_in_training_alone_and_every_weight_learns(config: Any, field: str) -> None:
    none = {"dropout": 0.0, "dropout_pre_encoder": 0.0}
    torch.manual_seed(0)
    model = Conformer(config(**SMALL, **none, **{field: 0.5}), d_in=20)
    plain = Conformer(config(**SMALL, **none), d_in=20)
    plain.load_state_dict(model.state_dict())
    feats, lens = torch.randn(2, 50, 20), torch.tensor([50, 30])
    assert torch.equal(model.eval()(feats, lens)[0], plain.eval()(feats, lens)[0])
    first, second = (model.train()(feats, lens)[0] for _ in range(2))
    assert not torch.allclose(first, second)
    assert torch.equal(*(plain.train()(feats, lens)[0] for _ in range(2)))
    first.square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


def test_a_backend_asked_for_by_name_that_cannot_drop_weights_is_an_error_in_training_alone() -> None:
    model = Conformer(ConformerConfig(**SMALL, dropout_att=0.1, attention_backend="sdpa"), d_in=20)
    feats, lens = torch.randn(1, 50, 20), torch.tensor([50])
    model.eval()(feats, lens)
    with pytest.raises(KernelUnavailable, match=r"attention_backend 'sdpa' builds no attention weights, and dropout_att 0\.1"):
        model.train()(feats, lens)


@pytest.mark.parametrize("name", ["conformer", "fastconformer"])
def test_configs_that_do_not_name_them_drop_nothing(name: str) -> None:
    config = fill_section("encoder", {"name": name}, "encoder").config
    assert (config.dropout_att, config.dropout_emb) == (0.0, 0.0)


@pytest.mark.parametrize("field", ["dropout_att", "dropout_emb"])
@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_refuses_what_is_no_probability(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{field} {value} is not in \[0, 1\)"):
        ConformerConfig(**{field: value})


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({}, (0.1, 0.0)),
        ({"attention_dropout": 0.2}, (0.2, 0.0)),
        ({"attention_dropout": 0.0, "dropout_positions": 0.3}, (0.0, 0.3)),
    ],
)
def test_they_are_read_and_written_by_hugging_faces_names(theirs: dict[str, float], ours: tuple[float, float]) -> None:
    sizes = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 256, "num_hidden_layers": 2}
    section = ForeignSection({"model_type": "parakeet_encoder", **sizes, **theirs}, "encoder_config")
    values = huggingface.read(section)
    assert not section.finish()
    config = fill_section("encoder", {"name": "fastconformer", **values}, "encoder").config
    assert (config.dropout_att, config.dropout_emb) == ours
    written = huggingface.write(config, 80)
    assert (written["attention_dropout"], written["dropout_positions"]) == ours
