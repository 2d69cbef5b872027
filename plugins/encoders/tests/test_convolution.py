"""The convolution module against its definition, frame by frame, in float64; its norms; and as a stream."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sonant_encoders.blocks.convolution import ConvolutionModule, MaskedGroupNorm

D, KERNEL, T = 8, 5, 17
CONTEXTS = [(2, 2), (4, 0), (0, 4), (1, 3)]
NORMS = ["batch_norm", "layer_norm", "group_norm4", "group_norm1"]


def build(context: tuple[int, int] = (2, 2), **options: Any) -> ConvolutionModule:
    """In eval mode, with norms that do something."""
    torch.manual_seed(0)
    model = ConvolutionModule(D, KERNEL, *context, **options).double().eval()
    for name, tensor in model.norm.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.5 if "var" in name or "weight" in name else torch.randn_like(tensor))
    return model


def plain(model: ConvolutionModule, x: Tensor) -> Tensor:
    """`(T, D)` to `(T, D)`, one recording without padding."""
    widened = x @ model.pointwise1.weight.T + (0 if model.pointwise1.bias is None else model.pointwise1.bias)
    gated = widened[:, :D] * widened[:, D:].sigmoid()
    padded = torch.cat([gated.new_zeros(model.left, D), gated, gated.new_zeros(model.right, D)])
    kernel = model.depthwise.weight[:, 0].T  # (KERNEL, D)
    convolved = torch.stack([(padded[t : t + KERNEL] * kernel).sum(0) for t in range(len(x))])
    if model.depthwise.bias is not None:
        convolved = convolved + model.depthwise.bias
    normal = normalize(model.norm, convolved)
    out = (normal * normal.sigmoid()) @ model.pointwise2.weight.T
    return out if model.pointwise2.bias is None else out + model.pointwise2.bias


def normalize(norm: nn.Module, x: Tensor) -> Tensor:
    if isinstance(norm, nn.BatchNorm1d):
        mean, variance = norm.running_mean, norm.running_var
    elif isinstance(norm, nn.LayerNorm):
        mean, variance = x.mean(1, keepdim=True), x.var(1, correction=0, keepdim=True)
    else:
        assert isinstance(norm, MaskedGroupNorm)
        groups = x.unflatten(1, (norm.num_groups, -1))
        mean = groups.mean((0, 2)).repeat_interleave(D // norm.num_groups)
        variance = groups.var((0, 2), correction=0).repeat_interleave(D // norm.num_groups)
    return (x - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias  # type: ignore[operator]


def valid(lens: list[int]) -> Tensor:
    return torch.arange(T) < torch.tensor(lens)[:, None]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("norm", NORMS)
@torch.no_grad()
def test_outputs(norm: str, context: tuple[int, int], bias: bool) -> None:
    """With padding that must not matter, alone and without a mask."""
    model = build(context, norm=norm, bias=bias)
    lens = [T, 9, 1]
    x = torch.randn(3, T, D, dtype=torch.float64)
    out, _ = model(x, valid(lens))
    dirty, _ = model(x.masked_fill(~valid(lens)[..., None], 1e6), valid(lens))
    for n, length in enumerate(lens):
        wanted = plain(model, x[n, :length])
        torch.testing.assert_close(out[n, :length], wanted, atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(dirty[n, :length], wanted, atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(model(x[n : n + 1, :length])[0][0], wanted, atol=1e-10, rtol=1e-10)


@torch.no_grad()
def test_a_folded_batch_norm_is_the_batch_norm() -> None:
    model = build(norm="batch_norm")
    x = torch.randn(2, T, D, dtype=torch.float64)
    folded, _ = model(x)
    model.train()
    model.norm.eval()  # the module takes the long way, the norm its running statistics
    torch.testing.assert_close(model(x)[0], folded, atol=1e-12, rtol=1e-12)


def test_batch_norm_learns_in_training_only() -> None:
    model = build(norm="batch_norm")
    x = torch.randn(4, T, D, dtype=torch.float64)
    before = {k: v.clone() for k, v in model.norm.state_dict().items()}
    model(x)
    assert all(torch.equal(v, before[k]) for k, v in model.norm.state_dict().items())
    out, _ = model.train()(x)
    assert not torch.equal(model.norm.running_mean, before["running_mean"])  # type: ignore[arg-type]
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in model.named_parameters() if n != "depthwise.bias")


@pytest.mark.parametrize("groups", [1, 2, D])
@torch.no_grad()
def test_masked_group_norm_without_padding_is_group_norm(groups: int) -> None:
    norm, theirs = MaskedGroupNorm(groups, D), nn.GroupNorm(groups, D)
    theirs.weight.copy_(torch.rand(D))
    theirs.bias.copy_(torch.randn(D))
    norm.load_state_dict(theirs.state_dict())
    x = 3 + 2 * torch.randn(2, D, T)
    torch.testing.assert_close(norm(x), theirs(x))
    torch.testing.assert_close(norm(x, valid([T, T])), theirs(x), atol=1e-5, rtol=1e-5)
    cut = norm(x, valid([T, 6]))
    torch.testing.assert_close(cut[1:, :, :6], theirs(x[1:, :, :6]), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_masked_group_norm_of_nothing_is_finite() -> None:
    assert MaskedGroupNorm(2, D)(torch.randn(2, D, T), valid([T, 0])).isfinite().all()


@pytest.mark.parametrize("norm", ["batch_norm", "layer_norm"])
@pytest.mark.parametrize("context", [(4, 0), (1, 3)])
@torch.no_grad()
def test_pieces_of_a_stream_give_what_the_whole_gives(norm: str, context: tuple[int, int]) -> None:
    """Up to the frames at the end of a piece that look ahead."""
    model = build(context, norm=norm)
    x = torch.randn(2, T, D, dtype=torch.float64)
    whole, _ = model(x)
    cache = x.new_zeros(2, model.left, D)
    for begin, end in ((0, 1), (1, 3), (3, 11), (11, 12), (12, T)):
        piece, taken = model(x[:, begin:end], None, cache)
        assert taken.shape == (2, model.left + end - begin + model.right, D)
        cache = taken[:, end - begin : end - begin + model.left]
        final = max(0, end - begin - model.right)
        torch.testing.assert_close(piece[:, :final], whole[:, begin : begin + final], atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_group_norm_of_long_padded_recordings_in_half_precision(dtype: torch.dtype) -> None:
    """Sums over so many frames are no numbers of float16, and so many frames none of bfloat16."""
    norm = MaskedGroupNorm(2, 8).to(dtype)
    x = (30 * torch.randn(2, 8, 3001, generator=torch.Generator().manual_seed(0)) + 20).to(dtype)
    mask = torch.arange(3001) < torch.tensor([[3001], [2001]])
    found = norm(x, mask).detach()
    assert found.dtype == dtype
    for row, length in enumerate((3001, 2001)):
        expected = torch.group_norm(x[row : row + 1, :, :length].double(), 2, eps=norm.eps)[0]
        torch.testing.assert_close(found[row, :, :length].double(), expected, atol=0.02, rtol=0.01)
