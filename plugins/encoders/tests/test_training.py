"""The ways of training on a CPU that are taken for their speed give what the plain ones give, gradients included.

They are taken in float32 alone, so float64 is the plain way, and exact.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sonant_encoders.blocks import channels_last
from sonant_encoders.blocks.convolution import ConvolutionModule
from sonant_encoders.blocks.dropout import Dropout
from sonant_encoders.blocks.subsampling import Subsampling
from sonant_encoders.conformer.config import ConformerConfig, FastConformerConfig
from sonant_encoders.conformer.model import Conformer
from sonant_encoders.kernels.rel_pos_attention import reference, sdpa, whole


def gradients(model: nn.Module, feats: Tensor, lens: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Of a sum that weighs every valid output differently."""
    out, frames = model(feats, lens)
    valid = torch.arange(out.shape[1]) < frames[:, None]
    weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).sin().view(out.shape).to(out.dtype)
    (out * weights * valid.unsqueeze(-1)).sum().backward()
    return (out * valid.unsqueeze(-1)).detach(), {
        name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None
    }


def close(found: Tensor, exact: Tensor, scale: float) -> bool:
    return float((found.double() - exact).norm()) <= 2e-5 * max(scale, float(exact.norm()))


CONFIGS: dict[str, Any] = {
    "fastconformer": FastConformerConfig(subsampling_factor=8, subsampling_conv_channels=12, n_layers=2, d_model=16, n_heads=4),
    "four times": FastConformerConfig(subsampling_factor=4, subsampling_conv_channels=12, n_layers=2, d_model=16, n_heads=4),
    "layer norm": FastConformerConfig(
        subsampling_factor=4,
        subsampling_conv_channels=12,
        n_layers=1,
        d_model=16,
        n_heads=2,
        conv_norm_type="layer_norm",
        conv_context_size="causal",
        causal_downsampling=True,
        att_context_size=[8, 3],
        att_context_style="chunked_limited",
    ),
    "group norm, few keys": FastConformerConfig(
        subsampling_factor=2, subsampling_conv_channels=12, n_layers=1, d_model=16, n_heads=2, conv_norm_type="group_norm4",
        att_context_size=[3, 2],
    ),
    "conformer": ConformerConfig(subsampling_conv_channels=12, n_layers=1, d_model=16, n_heads=2, use_bias=False),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("lens", [[61, 61, 61], [61, 37, 1], [40, 61, 0]])
def test_gradients_of_an_encoder_are_those_in_double_precision(name: str, lens: list[int]) -> None:
    torch.manual_seed(0)
    model = Conformer(CONFIGS[name], d_in=20).train()
    for module in model.modules():
        if hasattr(module, "p"):
            module.p = 0.0
    exact = copy.deepcopy(model).double()
    feats = torch.randn(3, 61, 20)
    out, found = gradients(model, feats, torch.tensor(lens))
    true_out, true = gradients(exact, feats.double(), torch.tensor(lens))
    assert close(out, true_out, 1.0)
    assert found.keys() == true.keys()
    typical = max(float(gradient.norm()) for gradient in true.values())
    wrong = [key for key in true if not close(found[key], true[key], typical)]
    assert not wrong
    for key, buffer in exact.named_buffers():  # running statistics
        torch.testing.assert_close(model.get_buffer(key).double(), buffer.double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [1, 4, 15])
def test_depthwise_convolution(size: int, bias: bool) -> None:
    torch.manual_seed(1)
    x, weight = torch.randn(2, 9 + size - 1, 24, requires_grad=True), torch.randn(24, 1, size, requires_grad=True)
    b = torch.randn(24, requires_grad=True) if bias else None
    inputs = [t for t in (x, weight, b) if t is not None]
    y = channels_last.depthwise(x, weight, b)
    plain = nn.functional.conv1d(x.transpose(1, 2), weight, b, groups=24).transpose(1, 2)
    torch.testing.assert_close(y, plain)
    towards = torch.randn_like(y)
    torch.testing.assert_close(torch.autograd.grad(y, inputs, towards), torch.autograd.grad(plain, inputs, towards))


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("lens", [[37, 37], [37, 8, 1, 0]])
def test_subsampling(factor: int, lens: list[int]) -> None:
    torch.manual_seed(1)
    kept: Any = {"kind": "dw_striding", "factor": factor, "channels": 12, "causal": False}
    model = Subsampling(20, 16, **kept)
    exact = copy.deepcopy(model).double()
    feats = torch.randn(len(lens), 37, 20)
    out, found = gradients(model, feats, torch.tensor(lens))
    true_out, true = gradients(exact, feats.double(), torch.tensor(lens))
    torch.testing.assert_close(out.double(), true_out, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close({name: g.double() for name, g in found.items()}, true, rtol=1e-4, atol=1e-5)


def test_subsampling_gives_gradients_to_features_that_want_them() -> None:
    torch.manual_seed(1)
    model = Subsampling(20, 16, kind="dw_striding", factor=4, channels=12, causal=False)
    feats = torch.randn(2, 13, 20, requires_grad=True)
    model(feats, torch.tensor([13, 9]))[0].square().sum().backward()
    assert feats.grad is not None
    assert feats.grad[0].abs().sum() > 0
    assert feats.grad[1, 9:].abs().sum() == 0


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dropout_of_silu(p: float, dtype: torch.dtype) -> None:
    dropout = Dropout(p).train()
    x = torch.randn(6, 40, dtype=dtype, requires_grad=True)
    towards = torch.randn_like(x)
    torch.manual_seed(3)
    found = dropout.of_silu(x)
    torch.manual_seed(3)
    plain = dropout(nn.functional.silu(x))
    torch.testing.assert_close(found, plain)
    torch.testing.assert_close(torch.autograd.grad(found, x, towards), torch.autograd.grad(plain, x, towards))
    torch.testing.assert_close(dropout.eval().of_silu(x), nn.functional.silu(x))


def test_frozen_weights_get_no_gradient() -> None:
    module = ConvolutionModule(8, 5, 2, 2).train()
    module.depthwise.weight.requires_grad_(False)
    x = torch.randn(2, 6, 8, requires_grad=True)
    module(x)[0].sum().backward()
    assert module.depthwise.weight.grad is None
    assert x.grad is not None


@pytest.mark.parametrize("frames", [1, 2, 13])
@pytest.mark.parametrize("window", [False, True])
@pytest.mark.parametrize("keys", [None, [[0, 2, 0], [1, 9, 0]]])
def test_gradients_of_attention_are_the_references(frames: int, window: bool, keys: list[list[int]] | None) -> None:
    torch.manual_seed(2)
    shapes = [(3, frames, 4, 6)] * 3 + [(2 * frames - 1, 4, 6), (4, 6), (4, 6)]
    inputs = [torch.randn(shape, requires_grad=True) for shape in shapes]
    i = torch.arange(frames)
    options = {"rows": torch.stack([i - 2, i + 3]) if window else None, "keys": None if keys is None else torch.tensor(keys)}
    assert whole.wanted(inputs[0], inputs[1])
    found, exact = sdpa.rel_pos_attention(*inputs, **options), reference.rel_pos_attention(*inputs, **options)
    torch.testing.assert_close(found, exact)
    towards = torch.randn_like(exact)
    torch.testing.assert_close(
        torch.autograd.grad(found, inputs, towards), torch.autograd.grad(exact, inputs, towards), rtol=1e-4, atol=1e-5
    )
