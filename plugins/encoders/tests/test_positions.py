"""Sinusoids, and the table of projected positions that is kept between calls."""

from __future__ import annotations

import copy
import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from sonant_encoders.blocks.positions import PositionProjection, distances, sinusoids

WIDTH = 24


@pytest.fixture
def projection() -> PositionProjection:
    torch.manual_seed(0)
    return PositionProjection(WIDTH).eval()


def expected(weight: Tensor, before: int, after: int) -> Tensor:
    positions = sinusoids(torch.arange(before, -after - 1, -1), WIDTH).to(weight.dtype)
    return positions @ weight.T


def assert_fresh(projection: PositionProjection, before: int = 29, after: int = 8) -> None:
    """The table is what the present weight gives."""
    with torch.no_grad():
        found, wanted = projection.table(before, after), expected(projection.weight, before, after)
    assert found.dtype == projection.weight.dtype
    tolerance = 2e-2 if found.dtype == torch.bfloat16 else 1e-6
    torch.testing.assert_close(found, wanted, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("width", [6, 7])
def test_sinusoids_are_sines_and_cosines_of_falling_rate(width: int) -> None:
    found = sinusoids(torch.tensor([-3, 0, 1, 17]), width)
    for row, position in zip(found.tolist(), (-3, 0, 1, 17), strict=True):
        angles = [position / 10000 ** (n / width) for n in range(0, width, 2)]
        assert row == pytest.approx([f(a) for a in angles for f in (math.sin, math.cos)][:width], abs=1e-6)


def test_distances_descend_to_both_sides_of_zero() -> None:
    found = distances(2, 1, 8, torch.device("cpu"))
    assert torch.equal(found, sinusoids(torch.tensor([2, 1, 0, -1]), 8))


@pytest.mark.parametrize("grad", [False, True])
def test_every_slice_is_what_would_be_computed_anew(projection: PositionProjection, grad: bool) -> None:
    """Whatever was asked for before, longer or shorter, also beyond the longest that is kept."""
    with torch.set_grad_enabled(grad):
        for before, after in (
            (4, 4),
            (299, 299),
            (0, 0),
            (199, 0),
            (0, 150),
            (109, 39),
            (127, 127),
            (128, 128),
            (1099, 0),
            (3, 1099),
            (1099, 1099),
            (8, 6),
        ):
            found = projection.table(before, after)
            assert found.shape == (before + after + 1, WIDTH)
            torch.testing.assert_close(found, expected(projection.weight, before, after), atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_the_table_is_kept(projection: PositionProjection) -> None:
    assert projection.table(20, 20).data_ptr() == projection.table(20, 20).data_ptr()
    first, second = projection.table(19, 4), projection.table(4, 4)
    assert first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()


def test_gradients_reach_the_weight(projection: PositionProjection) -> None:
    assert_fresh(projection)
    projection.table(29, 8).sum().backward()
    positions = sinusoids(torch.arange(29, -9, -1), WIDTH)
    assert projection.weight.grad is not None
    torch.testing.assert_close(projection.weight.grad, positions.sum(0).expand(WIDTH, -1), atol=1e-4, rtol=1e-5)


def test_a_weight_changed_in_place_is_noticed(projection: PositionProjection) -> None:
    assert_fresh(projection)
    with torch.no_grad():
        projection.weight.mul_(2)
    assert_fresh(projection)
    projection.load_state_dict({"weight": torch.randn(WIDTH, WIDTH)})
    assert_fresh(projection)
    torch.optim.SGD(projection.parameters(), lr=1.0).step(lambda: projection.table(3, 3).sum().backward())  # type: ignore[arg-type]
    assert_fresh(projection)


def test_a_weight_changed_behind_the_back_is_noticed_after_training(projection: PositionProjection) -> None:
    assert_fresh(projection)
    projection.train()
    projection.weight.data.mul_(2)
    projection.eval()
    assert_fresh(projection)


def test_another_weight_is_noticed(projection: PositionProjection) -> None:
    assert_fresh(projection)
    projection.weight = torch.nn.Parameter(torch.randn(WIDTH, WIDTH))
    assert_fresh(projection)
    projection.weight.data = torch.randn(WIDTH, WIDTH)
    assert_fresh(projection)


def test_another_dtype_is_noticed(projection: PositionProjection) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float64, torch.float32):
        assert_fresh(projection.to(dtype))


@torch.no_grad()
def test_autocast_does_not_leave_its_dtype_behind(projection: PositionProjection) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert projection.table(29, 8).dtype == torch.bfloat16
    assert_fresh(projection)
    with torch.autocast("cpu", torch.bfloat16):
        assert projection.table(29, 8).dtype == torch.bfloat16


def test_a_copy_has_a_table_of_its_own(projection: PositionProjection) -> None:
    assert_fresh(projection)
    twin = copy.deepcopy(projection)
    with torch.no_grad():
        twin.weight.neg_()
    assert_fresh(twin)
    assert_fresh(projection)


def test_the_table_is_no_part_of_the_state(projection: PositionProjection) -> None:
    assert_fresh(projection)
    assert set(projection.state_dict()) == {"weight"}


def test_weights_made_in_inference_mode() -> None:
    """They do not count their changes."""
    with torch.inference_mode():
        projection = PositionProjection(WIDTH)
        for _ in range(2):
            torch.testing.assert_close(projection.table(29, 8), expected(projection.weight, 29, 8), atol=1e-6, rtol=1e-5)
            projection.weight.mul_(2)


@torch.inference_mode()
def test_a_table_from_inference_mode_serves_outside_it(projection: PositionProjection) -> None:
    assert_fresh(projection)
    with torch.inference_mode(False):
        assert_fresh(projection)
        x = torch.randn(WIDTH, requires_grad=True)
        (projection.table(29, 8) @ x).sum().backward()
        assert x.grad is not None


def test_threads_share_it(projection: PositionProjection) -> None:
    def use(n: int) -> None:
        assert_fresh(projection, 10 + 13 * (n % 40), n % 7)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(200)))
