"""Dropout with cheap random numbers."""

from __future__ import annotations

import pytest
import torch

from sonant_encoders.blocks.dropout import Dropout


def test_drops_as_often_as_asked_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    y = Dropout(0.3).train()(torch.ones(1000, 1000))
    assert float((y == 0).double().mean()) == pytest.approx(0.3, abs=4 * (0.21 / 1e6) ** 0.5)
    assert float(y.max()) == pytest.approx(1 / 0.7, rel=1e-4)
    assert len(y.unique()) == 2


def test_elements_are_dropped_independently_along_every_axis() -> None:
    torch.manual_seed(1)
    kept = (Dropout(0.5).train()(torch.ones(400, 256)) != 0).double() - 0.5
    for other in (kept.roll(1, 0), kept.roll(1, 1), kept.roll(4, 1), kept.roll(64, 1)):
        assert abs(float((kept * other).mean()) / 0.25) < 4 / kept.numel() ** 0.5


def test_the_gradient_passes_where_the_value_did() -> None:
    x = torch.randn(50, 7, requires_grad=True)
    y = Dropout(0.4).train()(x)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad * x.detach(), y.detach())


@pytest.mark.parametrize("threads", [1, 2])
def test_what_is_dropped_follows_from_the_seed(threads: int) -> None:
    before, layer = torch.get_num_threads(), Dropout(0.5).train()
    found = []
    try:
        for count in (1, threads):
            torch.set_num_threads(count)
            torch.manual_seed(7)
            found.append(torch.stack([layer(torch.ones(300, 301)) for _ in range(2)]))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)
    assert not torch.equal(found[0][0], found[0][1]), "the second call draws anew"


@pytest.mark.parametrize("size", [(0,), (1,), (3, 5), (2, 0, 4)])
def test_any_shape(size: tuple[int, ...]) -> None:
    assert Dropout(0.5).train()(torch.ones(size)).shape == size


def test_does_nothing_in_inference_or_with_probability_zero() -> None:
    x = torch.randn(5, 5)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0).train()(x) is x
    assert not Dropout(1.0).train()(x).any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_keeps_the_type(dtype: torch.dtype) -> None:
    assert Dropout(0.5).train()(torch.ones(8, 8, dtype=dtype)).dtype == dtype


def test_refuses_what_is_no_probability() -> None:
    with pytest.raises(ValueError, match="1.5 does not lie in"):
        Dropout(1.5)
