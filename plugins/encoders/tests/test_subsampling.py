"""Subsampling against plain convolutions over one recording at a time, without masks, in float64."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sonant_encoders.blocks import subsampling
from sonant_encoders.blocks.subsampling import Subsampling

F, D = 13, 10
OPTIONS = [
    {"kind": kind, "factor": factor, "causal": causal}
    for kind, factor, causal in product(("striding", "dw_striding"), (2, 4, 8), (False, True))
]


def build(options: dict[str, Any]) -> Subsampling:
    torch.manual_seed(0)
    return Subsampling(F, D, channels=6, **options).double().eval()


def plain(model: Subsampling, feats: Tensor) -> Tensor:
    """`(T, F)` to `(T', D)`: pad, convolve, rectify, project."""
    x = feats[None, None]
    sides = (2, 1, 2, 1) if model.causal else (1, 1, 1, 1)
    convolutions = [layer for layer in model.conv if isinstance(layer, torch.nn.Conv2d)]
    for n, layer in enumerate(convolutions):
        if layer.kernel_size == (3, 3):
            x = functional.pad(x, sides)
        x = functional.conv2d(x, layer.weight, layer.bias, layer.stride, groups=layer.groups)
        if n + 1 == len(convolutions) or convolutions[n + 1].kernel_size == (3, 3):
            x = x.relu()
    return functional.linear(x[0].permute(1, 0, 2).flatten(1), model.out.weight, model.out.bias)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@torch.no_grad()
def test_recordings_of_a_batch_give_what_each_gives_alone(options: dict[str, Any]) -> None:
    """And as many frames, from the shortest on."""
    model = build(options)
    lens = torch.tensor([*range(1, 40), 97])
    feats = torch.randn(len(lens), 97, F, dtype=torch.float64)
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            found, counts = model(feats, lens)
        for row, count, one, length in zip(found, counts, feats, lens, strict=True):
            wanted = plain(model, one[:length])
            assert count == len(wanted) == frames(int(length), options)
            torch.testing.assert_close(row[:count], wanted, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("garbage", [1e30, math.inf, math.nan])
def test_what_lies_beyond_the_length_does_not_matter(options: dict[str, Any], garbage: float) -> None:
    model = build(options)
    lens = torch.tensor([40, 23, 8, 1, 0])
    feats = torch.randn(5, 40, F, dtype=torch.float64)
    dirty = feats.masked_fill((torch.arange(40) >= lens[:, None])[..., None], garbage)
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            (clean, counts), (found, _) = model(feats, lens), model(dirty, lens)
        for ours, wanted, count in zip(found, clean, counts, strict=True):
            torch.testing.assert_close(ours[:count], wanted[:count], atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@torch.no_grad()
def test_long_recordings_are_subsampled_in_pieces(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    """Of 16 frames, the fewest there are; whatever the length leaves for the last, with padding that begins in any piece."""
    monkeypatch.setattr(subsampling, "_LARGEST_MAP", {"cpu": 1})
    model = build(options)
    sizes: list[int] = []
    whole = model._convolve

    def noting(feats: Tensor, lens: Tensor, left: int) -> Tensor:
        sizes.append(feats.shape[1])
        return whole(feats, lens, left)

    monkeypatch.setattr(model, "_convolve", noting)
    piece = 16 * options["factor"]
    for total in (piece, piece + 1, 2 * piece - 1, 2 * piece, 2 * piece + options["factor"], 3 * piece + 5):
        feats = torch.randn(1, total, F, dtype=torch.float64)
        for length in (total, total - 1, min(total, piece + 3), 5):
            dirty = feats.masked_fill((torch.arange(total) >= length)[:, None], math.nan)
            found, counts = model(dirty, torch.tensor([length]))
            wanted = plain(model, feats[0, :length])
            assert found.shape[1] == frames(total, options) and counts.tolist() == [len(wanted)]
            torch.testing.assert_close(found[0, : len(wanted)], wanted, atol=1e-12, rtol=1e-10)
    assert max(sizes) == 18 * options["factor"]  # two frames more, for the sake of the first


def frames(count: int, options: dict[str, Any]) -> int:
    """Every layer halves; a causal one also gives the frame that begins where its input ends."""
    for _ in range(int(math.log2(options["factor"]))):
        count = count // 2 + 1 if options["causal"] else (count + 1) // 2
    return count


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_no_input_is_too_short(options: dict[str, Any]) -> None:
    model = build(options)
    for width in (0, 1, 2):
        for grad in (False, True):
            with torch.set_grad_enabled(grad):
                out, counts = model(torch.randn(2, width, F, dtype=torch.float64), torch.tensor([width, 0]))
            assert out.isfinite().all() and out.shape[1] >= counts.max()
            assert counts.tolist() == [frames(width, options), frames(0, options)]


@pytest.mark.parametrize("options", [o for o in OPTIONS if o["causal"]], ids=str)
@torch.no_grad()
def test_causal_frames_do_not_depend_on_later_ones(options: dict[str, Any]) -> None:
    model, factor = build(options), options["factor"]
    feats = torch.randn(1, 64, F, dtype=torch.float64)
    before, _ = model(feats, torch.tensor([64]))
    for n in (0, 1, 2, 5):
        changed = feats.clone()
        changed[:, factor * n + 1 :] += 1
        after, _ = model(changed, torch.tensor([64]))
        assert torch.equal(after[:, : n + 1], before[:, : n + 1])
        assert not torch.equal(after[:, n + 1], before[:, n + 1])


@pytest.mark.parametrize("options", [o for o in OPTIONS if not o["causal"]], ids=str)
@torch.no_grad()
def test_frames_are_centred_otherwise(options: dict[str, Any]) -> None:
    """Frame n sees as many features before `factor * n` as behind it."""
    model, factor = build(options), options["factor"]
    feats = torch.zeros(1, 64, F, dtype=torch.float64, requires_grad=True)
    n = 64 // factor // 2
    with torch.enable_grad():
        # Rectifiers pass gradients of positive values only.
        out, _ = model(feats + torch.rand(1, 64, F, dtype=torch.float64), torch.tensor([64]))
        (gradient,) = torch.autograd.grad(out[:, n].abs().sum(), feats)
    seen = gradient[0].abs().sum(1).nonzero().flatten()
    assert seen[0] == factor * n - (factor - 1) and seen[-1] == factor * n + factor - 1


@pytest.mark.parametrize("options", [o for o in OPTIONS if o["causal"]], ids=str)
@torch.no_grad()
def test_a_stream_goes_on_from_its_context(options: dict[str, Any]) -> None:
    model, factor = build(options), options["factor"]
    feats = torch.randn(2, 16 * factor, F, dtype=torch.float64)
    lens = torch.tensor([16 * factor, 16 * factor - 5])
    whole, counts = model(feats, lens)
    for first in (2, 3, 7):
        begin = factor * first - model.context
        rest, rest_counts = model(feats[:, begin:], lens - begin, start=False)
        assert rest_counts.tolist() == (counts - first).tolist()
        for ours, wanted, count in zip(rest, whole[:, first:], rest_counts, strict=True):
            torch.testing.assert_close(ours[:count], wanted[:count], atol=1e-12, rtol=1e-10)


def test_gradients_reach_every_weight() -> None:
    model = build({"kind": "dw_striding", "factor": 4, "causal": False})
    out, _ = model(torch.randn(2, 20, F, dtype=torch.float64), torch.tensor([20, 11]))
    out.sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
