"""The linear layer with a packed weight: the products of `nn.Linear`, whatever is done to the layer in between."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import Tensor, nn

from sonant import memory
from sonant_encoders.blocks import linear
from sonant_encoders.blocks.linear import Linear

with_mkl = pytest.mark.skipif(
    not torch.backends.mkl.is_available(), reason="packs with MKL alone; the other tests run everywhere"
)


@pytest.fixture
def layer() -> Linear:
    torch.manual_seed(0)
    return Linear(96, 80).eval()


def exact(layer: nn.Linear, x: Tensor) -> Tensor:
    """In float64, sum by sum."""
    bias = 0 if layer.bias is None else layer.bias.double()
    return (x.double().unsqueeze(-2) * layer.weight.double()).sum(-1) + bias


def is_packed(layer: Linear) -> bool:
    return linear._kept.get(layer, (None, None))[1] is not None


@torch.no_grad()
@pytest.mark.parametrize("shape", [(1,), (2,), (1, 7), (3, 43), (2, 128), (1, 1, 500), (2048,), (2049,), (0,), (2, 0)])
@pytest.mark.parametrize("bias", [True, False])
def test_any_number_of_rows(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(1)
    layer = Linear(48, 33, bias=bias)
    layer(torch.randn(20, 48))  # packed while it had twenty
    x = torch.randn(*shape, 48)
    torch.testing.assert_close(layer(x), exact(layer, x).float(), rtol=1e-5, atol=1e-5)
    strided = torch.randn(*shape, 96)[..., ::2]
    torch.testing.assert_close(layer(strided), exact(layer, strided).float(), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_weight_that_changes_is_seen(layer: Linear) -> None:
    x = torch.randn(30, 96)
    layer(x)
    layer.weight.mul_(2.0)
    torch.testing.assert_close(layer(x), exact(layer, x).float(), rtol=1e-5, atol=1e-5)
    layer.weight = nn.Parameter(torch.randn(80, 96))
    torch.testing.assert_close(layer(x), exact(layer, x).float(), rtol=1e-5, atol=1e-5)
    layer.load_state_dict(Linear(96, 80).state_dict())
    torch.testing.assert_close(layer(x), exact(layer, x).float(), rtol=1e-5, atol=1e-5)
    layer.double()
    torch.testing.assert_close(layer(x.double()), exact(layer, x))


def test_gradients_are_those_of_the_plain_layer(layer: Linear) -> None:
    x = torch.randn(30, 96)
    with torch.no_grad():
        layer(x)
    layer(x).square().sum().backward()
    plain = nn.Linear(96, 80)
    plain.load_state_dict(layer.state_dict())
    plain(x).square().sum().backward()
    assert layer.weight.grad is not None and plain.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, plain.weight.grad)


@with_mkl
@torch.no_grad()
def test_what_is_packed_belongs_to_no_copy_and_no_file(layer: Linear) -> None:
    x = torch.randn(30, 96)
    layer(x)
    assert is_packed(layer)
    twin = copy.deepcopy(layer)
    assert not is_packed(twin)
    torch.testing.assert_close(twin(x), layer(x))
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    assert file.tell() < 2 * layer.weight.nbytes
    layer.train()
    assert not is_packed(layer)


@with_mkl
@torch.no_grad()
def test_nothing_is_packed_where_memory_is_short(layer: Linear, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free", lambda device: 2**20)
    x = torch.randn(30, 96)
    torch.testing.assert_close(layer(x), exact(layer, x).float(), rtol=1e-5, atol=1e-5)
    assert not is_packed(layer)


@with_mkl
def test_a_layer_that_is_gone_leaves_nothing(layer: Linear) -> None:
    before = len(linear._kept)
    with torch.no_grad():
        layer(torch.randn(30, 96))
        other = Linear(96, 80)
        other(torch.randn(30, 96))
    assert len(linear._kept) == before + 2
    del other
    assert len(linear._kept) == before + 1
