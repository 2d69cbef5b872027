"""The encoder's modules against their formulas, written out with loops in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from acme_speech.encoder.config import EBranchformerConfig
from acme_speech.encoder.layer import ConvolutionalGate, Merge, SelfAttention, rotate
from acme_speech.encoder.model import EBranchformer

T, D = 7, 8


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def depthwise(conv: nn.Conv1d, x: Tensor, length: int) -> Tensor:
    """`y[t, c] = b[c] + sum_k w[c, k] x[t + k - K // 2, c]` over the first `length` frames of `(T, C)`."""
    weight, bias = conv.weight[:, 0], conv.bias
    assert bias is not None
    y = bias.repeat(len(x), 1)
    for t in range(len(x)):
        for k in range(weight.shape[1]):
            source = t + k - weight.shape[1] // 2
            if 0 <= source < length:
                y[t] = y[t] + weight[:, k] * x[source]
    return y


def valid(length: int) -> Tensor:
    return (torch.arange(T) < length)[None]


def test_rotation_is_a_product_of_complex_numbers() -> None:
    x = noise(1, 2, T, D)
    pairs = torch.complex(x[..., : D // 2], x[..., D // 2 :])
    angles = torch.tensor([[t * 10000.0 ** (-2 * i / D) for i in range(D // 2)] for t in range(T)], dtype=torch.float64)
    turned = pairs * torch.polar(torch.ones_like(angles), angles)
    torch.testing.assert_close(rotate(x), torch.cat([turned.real, turned.imag], -1), atol=1e-5, rtol=0.0)


def test_rotated_products_depend_on_the_distance_alone() -> None:
    query, key = noise(D).expand(1, 1, T, D), noise(2, D)[1].expand(1, 1, T, D)
    products = rotate(query)[0, 0] @ rotate(key)[0, 0].T
    for distance in range(-T + 1, T):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5, rtol=0.0)
    assert products[0].std() > 1e-3


@pytest.mark.parametrize("length", [T, 4])
@torch.no_grad()
def test_attention(length: int) -> None:
    heads, width = 2, D // 2
    attention = SelfAttention(D, heads, dropout=0.0).double()
    x = noise(1, T, D)
    q, k, v = attention.query_key_value(x[0]).split(D, -1)
    q, k = (torch.cat([rotate(h[None, None])[0, 0] for h in part.split(width, -1)], -1) for part in (q, k))
    rows = []
    for t in range(T):
        heard = []
        for h in range(heads):
            own = slice(h * width, (h + 1) * width)
            scores = [math.exp(float(q[t, own] @ k[s, own]) / math.sqrt(width)) for s in range(length)]
            heard.append(sum(score / sum(scores) * v[s, own] for s, score in enumerate(scores)))
        rows.append(torch.cat(heard))  # type: ignore[arg-type]  # sum() starts from 0
    torch.testing.assert_close(attention(x, valid(length))[0], attention.out(torch.stack(rows)))


@pytest.mark.parametrize("length", [T, 4])
def test_convolutional_gate(length: int) -> None:
    gate = ConvolutionalGate(D, hidden=12, kernel_size=3, dropout=0.0).double()
    x = noise(1, T, D)
    hidden = gate.up(x[0])
    hidden = 0.5 * hidden * (1 + torch.erf(hidden / math.sqrt(2)))
    a, b = hidden[:, :6], hidden[:, 6:]
    b = (b - b.mean(1, keepdim=True)) / torch.sqrt(b.var(1, unbiased=False, keepdim=True) + 1e-5)
    wanted = gate.down(a * depthwise(gate.conv.conv, b, length))
    torch.testing.assert_close(gate(x, valid(length))[0], wanted)


@pytest.mark.parametrize("length", [T, 4])
def test_merge(length: int) -> None:
    merge = Merge(D, kernel_size=5).double()
    wide, near = noise(2, 1, T, D)
    both = torch.cat([wide[0], near[0]], dim=1)
    wanted = merge.out(both + depthwise(merge.conv.conv, both, length))
    torch.testing.assert_close(merge(wide, near, valid(length))[0], wanted)


@pytest.mark.parametrize("frames", range(1, 14))
def test_a_quarter_of_the_frames_is_left(frames: int) -> None:
    config = EBranchformerConfig(n_layers=1, d_model=8, n_heads=2, d_ff=8, d_gate=8, kernel_size=3, merge_kernel_size=3)
    encoder = EBranchformer(config, d_in=10).eval()
    enc, lens = encoder(torch.zeros(2, frames, 10), torch.tensor([frames, frames // 2]))
    assert enc.shape == (2, math.ceil(frames / 4), 8)
    assert lens.tolist() == [math.ceil(frames / 4), math.ceil(frames // 2 / 4)]


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"d_model": 36, "n_heads": 8}, "d_model 36 is not a multiple of 2 n_heads = 16"),
        ({"d_gate": 33}, "d_gate 33 is odd"),
        ({"merge_kernel_size": 4}, "merge_kernel_size 4 is even"),
    ],
)
def test_sizes_that_do_not_fit(values: dict[str, int], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        EBranchformerConfig(**values)  # type: ignore[arg-type]
