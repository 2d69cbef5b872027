"""The convolutional encoder: independence of batch and padding, its layers' formulas, and the configs it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sonant_encoders.convolutional.config import BlockConfig, ConvolutionalConfig
from sonant_encoders.convolutional.layers import Frames, Shuffle, SqueezeExcitation
from sonant_encoders.convolutional.model import Convolutional

F = 12


def block(filters: int = 8, kernel: int = 3, **options: Any) -> BlockConfig:
    return BlockConfig(filters=filters, kernel=kernel, **options)


PAIR: dict[str, Any] = {"repeat": 2, "residual": True}
BLOCKS = [
    block(16, 5, stride=2, separable=True),
    block(16, 7, separable=True, se=True, se_reduction_ratio=2, **PAIR),
    block(8, 3, dilation=2),
]
OPTIONS: dict[str, dict[str, Any]] = {
    **{norm: {"blocks": BLOCKS, "normalization": norm} for norm in ("batch", "layer", "instance")},
    "group": {"blocks": BLOCKS, "normalization": "group", "norm_groups": 4},
    "dense": {"blocks": [block(8, 5), block(16, 5, residual_dense=True, **PAIR), block(8, residual_dense=True, **PAIR)]},
    "strides": {
        "blocks": [block(8, 5, stride=2, stride_last=True, residual_mode="stride_add", **PAIR), block(stride=3, repeat=2)]
    },
    "maximum": {"blocks": [block(16, 5, groups=4, residual_mode="max", **PAIR)], "activation": "gelu"},
    "pointwise": {"blocks": [block(8, 1, stride=3), block(8, 1, groups=2)]},
    "future": {"blocks": [block(8, 7, future_context=1), block(8, 5, future_context=1, dilation=2, repeat=2)]},
}


def build(**options: Any) -> Convolutional:
    """In eval mode and float64, so that a leak of any size shows, with norms that do something."""
    torch.manual_seed(0)
    model = Convolutional(ConvolutionalConfig(**options), d_in=F).double()
    for name, tensor in model.state_dict().items():
        if tensor.ndim == 1:
            tensor.copy_(torch.rand_like(tensor) + (0.5 if not name.endswith("mean") else -0.5))
    return model.eval()


def features(*sizes: int) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(*sizes, F, dtype=torch.float64)


# --- Independence


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_alone_and_among_others_and_with_any_padding(options: dict[str, Any], grad: bool) -> None:
    model = build(**options)
    lens = torch.tensor([70, 97, 33, 1, 0, 8])
    feats = features(len(lens), 97)
    dirty = feats.masked_fill((torch.arange(97) >= lens[:, None])[..., None], 1e4)
    with torch.set_grad_enabled(grad):
        together, counts = model(feats, lens)
        assert together.isfinite().all() and together.shape[2] == model.d_out
        assert counts.max() == together.shape[1]
        for found, _ in (model(dirty, lens), model(torch.nn.functional.pad(dirty, (0, 0, 0, 40), value=7.0), lens)):
            for ours, wanted, count in zip(found, together, counts, strict=True):
                torch.testing.assert_close(ours[:count], wanted[:count], atol=1e-9, rtol=1e-9)
        for n, length in enumerate(lens):
            if length:
                alone, count = model(feats[n : n + 1, :length], lens[n : n + 1])
                assert count == counts[n]
                torch.testing.assert_close(alone[0, :count], together[n, :count], atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_gradients_reach_every_parameter(options: dict[str, Any]) -> None:
    for mode in (True, False):
        model = build(**options).train(mode)
        out, _ = model(features(2, 50), torch.tensor([50, 29]))
        (out * torch.randn_like(out)).sum().backward()
        assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_bfloat16_is_finite_and_near() -> None:
    model = build(blocks=BLOCKS).float()
    feats, lens = features(2, 60).float(), torch.tensor([60, 31])
    with torch.no_grad():
        exact, counts = model(feats, lens)
        found, _ = model.to(torch.bfloat16)(feats, lens)
    assert found.dtype == torch.bfloat16
    for ours, wanted, count in zip(found, exact, counts, strict=True):
        assert (ours[:count].float() - wanted[:count]).norm() / wanted[:count].norm() < 0.05


# --- Time


@torch.no_grad()
@pytest.mark.parametrize(
    ("options", "reach"),
    [
        ({}, (3, 3)),
        ({"future_context": 0}, (6, 0)),
        ({"future_context": 1}, (5, 1)),
        ({"future_context": 9}, (3, 3)),
        ({"dilation": 2}, (6, 6)),
        ({"repeat": 2, "future_context": 1}, (10, 2)),
        ({"separable": True, "residual": True}, (3, 3)),
    ],
    ids=str,
)
def test_how_many_frames_a_frame_depends_on(options: dict[str, Any], reach: tuple[int, int]) -> None:
    model = build(blocks=[block(8, 7, **options)], activation="identity")
    feats = features(1, 60)
    changed = feats.clone()
    changed[:, 30] += 1
    lens = torch.tensor([60])
    difference = (model(feats, lens)[0] - model(changed, lens)[0])[0].abs().amax(-1)
    seen = (difference > 1e-12).nonzero().flatten().tolist()
    back, ahead = reach
    step = options.get("dilation", 1)
    assert seen == list(range(30 - ahead, 30 + back + 1, step))


@pytest.mark.parametrize(("strides", "expected"), [((1,), 1), ((2,), 2), ((2, 2, 2), 8), ((3, 1, 2), 6)])
def test_subsampling_is_the_product_of_the_strides(strides: tuple[int, ...], expected: int) -> None:
    model = build(blocks=[block(stride=stride) for stride in strides])
    lens = torch.tensor([expected * 10, expected * 10 - expected + 1, expected * 10 + 1])
    enc, counts = model(features(3, int(lens.max())), lens)
    assert (model.subsampling, counts.tolist()) == (expected, [10, 10, 11]) and enc.shape[1] == 11


def test_repeated_convolutions_stride_each_or_the_last_alone() -> None:
    assert build(blocks=[block(repeat=3, stride=2)]).subsampling == 8
    assert build(blocks=[block(repeat=3, stride=2, stride_last=True)]).subsampling == 2


# --- Layers


def test_squeeze_and_excitation_is_its_formula() -> None:
    torch.manual_seed(0)
    layer = SqueezeExcitation(6, 2, -1, torch.nn.ReLU()).double()
    x, lens = torch.randn(2, 6, 9, dtype=torch.float64), torch.tensor([9, 5])
    found = layer(x, Frames(lens, 9))
    for row, out, length in zip(x, found, lens, strict=True):
        inner = torch.relu(layer.fc[0].weight @ row[:, :length].mean(1))
        scale = torch.sigmoid(layer.fc[2].weight @ inner)
        torch.testing.assert_close(out[:, :length], row[:, :length] * scale[:, None])
        assert not out[:, length:].any()


def test_in_training_it_averages_an_excerpt() -> None:
    """All excerpts of 3 of 8 frames but the last, as NeMo draws them; in eval mode, and of what is shorter, the whole."""
    torch.manual_seed(0)
    layer = SqueezeExcitation(4, 2, 3, torch.nn.Identity()).double()
    x = torch.randn(1, 4, 8, dtype=torch.float64)

    def scaled(part: Tensor) -> Tensor:
        return x * torch.sigmoid(layer.fc(part.mean(2)))[:, :, None]

    frames = Frames(torch.tensor([8]), 8)
    possible = [scaled(x[:, :, start : start + 3]) for start in range(5)]
    draws = [layer(x, frames) for _ in range(60)]
    counts = [sum(torch.allclose(draw, wanted) for draw in draws) for wanted in possible]
    assert sum(counts) == 60 and min(counts) > 0
    torch.testing.assert_close(layer.eval()(x, frames), scaled(x))
    short = layer.train()(x[:, :, :3], Frames(torch.tensor([3]), 3))
    torch.testing.assert_close(short, scaled(x[:, :, :3])[:, :, :3])


def test_shuffling_deals_the_groups_out_in_turn() -> None:
    x = torch.arange(6.0)[None, :, None].expand(1, 6, 2)
    assert Shuffle(2)(x)[0, :, 0].tolist() == [0, 3, 1, 4, 2, 5]
    assert Shuffle(3)(x)[0, :, 1].tolist() == [0, 2, 4, 1, 3, 5]


@torch.no_grad()
def test_a_batch_norm_learns_from_silence_in_the_padding_and_not_from_what_lies_there() -> None:
    """In NeMo the padding counts, as zeros. Separable convolutions carry the end of a recording into it, which does not."""
    model = build(blocks=[block(8, 5, separable=True)]).train()
    norm = model.blocks[0].layers[2]
    norm.momentum = 1.0
    feats, lens = features(2, 30), torch.tensor([30, 20])
    model(feats, lens)
    time, channel = (model.blocks[0].layers[n].conv.weight for n in (0, 1))
    heard = []
    for row, length in zip(feats, lens, strict=True):
        y = torch.nn.functional.conv1d(row[None, :length].transpose(1, 2), time, padding=2, groups=F)
        heard.append(torch.nn.functional.pad(channel[:, :, 0] @ y[0], (0, 30 - int(length))))
    values = torch.stack(heard).transpose(1, 2).flatten(0, 1)  # (B T, C)
    torch.testing.assert_close(norm.running_mean, values.mean(0))
    torch.testing.assert_close(norm.running_var, values.var(0))


@torch.no_grad()
def test_the_state_is_the_same_after_a_pass_in_eval_mode() -> None:
    model = build(blocks=BLOCKS)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    feats = features(2, 40)
    given = feats.clone()
    model(feats, torch.tensor([40, 20]))
    assert torch.equal(feats, given)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_dropout_is_for_training() -> None:
    options: dict[str, Any] = {"blocks": [block(16, dropout=0.5)], "normalization": "layer"}
    feats, lens = features(1, 200), torch.tensor([200])
    trained, still = build(**options).train()(feats, lens)[0], build(**options)(feats, lens)[0]
    kept = trained != 0
    torch.testing.assert_close(trained[kept], 2 * still[kept])
    assert (still != 0)[~kept].double().mean() > 0.2


# --- Config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": 4}, "kernel 4 is even; it must be odd"),
        ({"repeat": 0}, "repeat 0 must be at least 1"),
        ({"kernel": -1}, "kernel -1 must be at least 1"),
        ({"stride": 2, "dilation": 2}, "stride 2 and dilation 2: one of them must be 1"),
        ({"kernel": 1, "dilation": 3, "future_context": 0}, "kernel 1 with dilation 3 and future_context 0: it reaches nowhere"),
        ({"groups": 3}, "groups 3 does not divide filters 8"),
        ({"se": True, "se_reduction_ratio": 9}, r"se_reduction_ratio 9 must lie in \[1, filters\]; filters are 8"),
        ({"se": True, "se_reduction_ratio": 0}, "se_reduction_ratio 0"),
        ({"residual_dense": True}, "residual_dense needs residual: true and stride 1"),
        ({"stride": 2, "residual": True}, "needs residual_mode: stride_add"),
        ({"stride": 2, "residual": True, "residual_mode": "stride_add", "repeat": 2}, "stride_last: true"),
        ({"dilation": 2, "future_context": 1, "residual": True}, "future_context with a dilation adds frames"),
    ],
    ids=str,
)
def test_impossible_blocks_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BlockConfig(**{"filters": 8, "kernel": 3} | options)


DENSE = block(residual=True, residual_dense=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": []}, "blocks is empty"),
        ({"blocks": [block()], "normalization": "group", "norm_groups": 3}, "norm_groups 3 must be -1 or divide the filters"),
        ({"blocks": [block()], "normalization": "group", "norm_groups": 0}, "norm_groups 0 must be"),
        ({"blocks": [DENSE, block(residual=True)]}, "must be dense too, or have no residual"),
        ({"blocks": [DENSE, block(), DENSE]}, "must follow one another"),
    ],
    ids=["empty", "groups", "no groups", "half dense", "dense twice"],
)
def test_impossible_configs_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvolutionalConfig(**options)
