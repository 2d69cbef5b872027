"""When two results of a task count as equal."""

from __future__ import annotations

from dataclasses import dataclass

import attrs
import numpy as np
import pytest
import torch

from sonant.testing.alike import difference


@attrs.frozen(eq=False)
class Vector:
    name: str
    values: torch.Tensor


@dataclass
class Row:
    scores: dict[str, float]
    spans: tuple[tuple[int, float], ...] = ()


class Plain:
    """Equal only to itself, as Python has it."""

    def __init__(self, value):
        self.value = value


ONES = torch.ones(3)
NAN = float("nan")


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ("a", "a"),
        (1.0, 1.00001),
        (NAN, NAN),
        (1e-9, 0.0),
        (np.float32(0.1), np.float32(0.100001)),
        (ONES, ONES + 1e-5),
        (torch.tensor([NAN, torch.inf]), torch.tensor([NAN, torch.inf])),
        (ONES[:0], ONES[:0]),
        (np.ones(3, np.float32), np.ones(3, np.float32) + 1e-5),
        (np.array(["a"]), np.array(["a"])),
        ({1, 2}, {2, 1}),
        ([{"a": ONES}], [{"a": ONES.clone()}]),
        (Vector("a", ONES), Vector("a", ONES.clone())),
        (Row({"a": 0.1}, ((1, 0.5),)), Row({"a": 0.1 + 1e-6}, ((1, 0.5),))),
        (Plain([ONES]), Plain([ONES.clone()])),
    ],
)
def test_alike(found, wanted):
    assert difference(found, wanted) == ""
    assert difference(wanted, found) == ""


@pytest.mark.parametrize(
    ("found", "wanted", "where"),
    [
        ("a", "b", "'a' instead of 'b'"),
        (1.0, 1.01, "1.0 instead of 1.01"),
        (1, 2, "1 instead of 2"),
        (True, 1, "True instead of 1"),
        (0.0, NAN, "0.0 instead of nan"),
        (None, 0.0, "None instead of 0.0"),
        (ONES, ONES * 1.01, "values of about 1 differ by up to 0.01"),
        (ONES, ONES.double(), "torch.float32 (3,) instead of torch.float64 (3,)"),
        (ONES, ONES[:2], "torch.float32 (3,) instead of torch.float32 (2,)"),
        (torch.tensor([1.0, NAN]), torch.tensor([1.0, 0.0]), "nan"),
        (torch.tensor([1]), torch.tensor([2]), "tensor([1]) instead of tensor([2])"),
        (np.array([1, 2]), np.array([1, 3]), "[1]: 2 instead of 3"),
        ([1, 2], [1], "[1, 2] instead of [1]"),
        ([1], (1,), "[1] instead of (1,)"),
        ({"a": 1}, {"b": 1}, "{'a': 1} instead of {'b': 1}"),
        ({1}, {2}, "{1} instead of {2}"),
        ([{"a": (1, "x")}], [{"a": (1, "y")}], "[0]['a'][1]: 'x' instead of 'y'"),
        (Vector("a", ONES), Vector("a", 2 * ONES), ".values: values of about 2 differ by up to 1"),
        (Row({"a": 0.1}), Row({"a": 0.2}), ".scores['a']: 0.1 instead of 0.2"),
        (Plain(1), Plain(2), ".value: 1 instead of 2"),
    ],
)
def test_not_alike(found, wanted, where):
    assert where in difference(found, wanted)
    assert difference(wanted, found)
