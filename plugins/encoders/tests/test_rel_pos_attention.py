"""`rel_pos_attention`: every backend that runs here against two truths in float64.

The first is the formula, one query at a time. The second gets by without any shift: with g_i = W_h^T (q_i + v) and the sinusoids
of position j, the angle addition theorem gives g_i . pe(i - j) = r_i . pe(j) for an r_i that depends on i alone, and so relative
attention is ordinary attention over [q_i + u ; r_i] and [k_j ; pe(j)]. An error of one in a shift cannot hide from both.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from attrs import evolve, frozen
from torch import Tensor
from torch.nn import functional

from sonant import kernels
from sonant.errors import KernelUnavailable
from sonant_encoders.kernels.rel_pos_attention import sdpa


def runs_on_cpu(backend: str) -> bool:
    try:
        kernels.get("rel_pos_attention", "cpu", backend)
    except KernelUnavailable:
        return False
    return True


BACKENDS = [spec.backend for spec, _ in kernels.available("rel_pos_attention") if runs_on_cpu(spec.backend)]
LENGTHS = [1, 2, 31, 32, 33, 63, 64, 65, 77, 125]
SHAPES = {
    1: (1, 32),
    2: (2, 44),
    31: (8, 8),
    32: (2, 64),
    33: (4, 32),
    63: (2, 44),
    64: (4, 8),
    65: (1, 128),
    77: (2, 60),
    125: (2, 32),
}


@frozen
class Case:
    """The tensors of one call, and the projection `w` `(H, d, H d)` that `p` was made with."""

    q: Tensor
    k: Tensor
    v: Tensor
    p: Tensor
    u: Tensor
    v_bias: Tensor
    w: Tensor
    rows: Tensor | None = None
    keys: Tensor | None = None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.q, self.k, self.v, self.p, self.u, self.v_bias

    def to(self, dtype: torch.dtype) -> Case:
        return Case(*(t.to(dtype) for t in (*self.tensors, self.w)), rows=self.rows, keys=self.keys)


def sinusoids(positions: Tensor, width: int) -> Tensor:
    rates = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = positions.double()[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)


def positions(w: Tensor, known: int, queries: int) -> Tensor:
    """The sinusoids of all distances, projected."""
    e = sinusoids(torch.arange(known - 1, -queries, -1), w.shape[-1])
    return torch.einsum("hkd,md->mhk", w, e.to(w.dtype))


def make(batch: int, heads: int, width: int, queries: int, *, earlier: int = 0, seed: int = 0) -> Case:
    """Random inputs: `queries` frames after `earlier` ones that only lend their keys and values."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    known, model = earlier + queries, heads * width
    w = draw(heads, width, model) / math.sqrt(model)
    p = positions(w, known, queries)
    q, k, v = draw(batch, queries, heads, width), draw(batch, known, heads, width), draw(batch, known, heads, width)
    return Case(q, k, v, p, draw(heads, width), draw(heads, width), w)


def formula(case: Case) -> Tensor:
    """Query by query, as the package's docstring says."""
    queries, known, seen = case.q.shape[1], case.k.shape[1], visibility(case)
    out = []
    for n in range(queries):
        i = known - queries + n
        by_content = torch.einsum("bhd,bjhd->bhj", case.q[:, n] + case.u, case.k)
        distance_rows = [known - 1 - (i - j) for j in range(known)]
        by_distance = torch.einsum("bhd,jhd->bhj", case.q[:, n] + case.v_bias, case.p[distance_rows])
        scores = (by_content + by_distance) / math.sqrt(case.q.shape[-1])
        visible = seen[:, n, None]
        weights = torch.where(visible.any(-1, keepdim=True), scores.masked_fill(~visible, -1e300).softmax(-1), 0.0)
        out.append(torch.einsum("bhj,bjhd->bhd", weights, case.v))
    return torch.stack(out, 1)


def visibility(case: Case) -> Tensor:
    """`(B, Tq, Tk)`: which query sees which key."""
    known = range(case.k.shape[1])
    rows = [(0, len(known))] * case.q.shape[1] if case.rows is None else case.rows.T.tolist()
    keys = [(0, len(known))] * len(case.q) if case.keys is None else case.keys.T.tolist()
    return torch.tensor([[[a <= j < b and c <= j < d for j in known] for a, b in rows] for c, d in keys])


def by_identity(case: Case) -> Tensor:
    """One ordinary attention with heads `H d` wider."""
    queries, known = case.q.shape[1], case.k.shape[1]
    model = case.w.shape[-1]
    g = torch.einsum("bihk,hkd->bhid", case.q + case.v_bias, case.w)
    e = sinusoids(torch.arange(known - queries, known), model)
    sine, cosine = e[:, 0::2], e[:, 1::2]
    r = torch.stack([g[..., 1::2] * sine - g[..., 0::2] * cosine, g[..., 0::2] * sine + g[..., 1::2] * cosine], -1).flatten(-2)
    pe = sinusoids(torch.arange(known), model).expand(*g.shape[:2], -1, -1)
    query = torch.cat([(case.q + case.u).transpose(1, 2), r], -1)
    key = torch.cat([case.k.transpose(1, 2), pe], -1)
    seen, scale = visibility(case)[:, None], case.q.shape[-1] ** -0.5
    out = functional.scaled_dot_product_attention(query, key, case.v.transpose(1, 2), attn_mask=seen, scale=scale)
    return out.masked_fill(~seen.any(-1, keepdim=True), 0.0).transpose(1, 2)


def run(backend: str, case: Case) -> Tensor:
    return kernels.get("rel_pos_attention", "cpu", backend)(*case.tensors, rows=case.rows, keys=case.keys)


def error(ours: Tensor, truth: Tensor) -> float:
    assert ours.shape == truth.shape and not ours.isnan().any()
    return float((ours.double() - truth).norm() / truth.norm().clamp(min=1e-30))


def window(queries: int, earlier: int, left: int, right: int) -> Tensor:
    i = torch.arange(earlier, earlier + queries)
    return torch.stack([i - left, i + right + 1])


def chunks(queries: int, earlier: int, size: int, left: int) -> Tensor:
    begin = torch.arange(earlier, earlier + queries) // size * size
    return torch.stack([begin - left * size, begin + size])


MASKS: dict[str, Callable[[int, int], Tensor | None]] = {
    "full": lambda t, e: None,
    "symmetric": lambda t, e: window(t, e, 5, 5),
    "asymmetric": lambda t, e: window(t, e, 16, 3),
    "causal": lambda t, e: window(t, e, 10**6, 0),
    "itself": lambda t, e: window(t, e, 0, 0),
    "chunks": lambda t, e: chunks(t, e, 8, 2),
}


def ragged(batch: int, known: int) -> Tensor:
    """Valid keys of each recording: all, none, one, about half."""
    stops = [known, 0, 1, known // 2 + 1][:batch]
    return torch.tensor([[0] * batch, stops])


def valid_queries(case: Case) -> Tensor:
    """Which outputs matter: those of frames that are no padding."""
    queries, known = case.q.shape[1], case.k.shape[1]
    if case.keys is None:
        return torch.ones(len(case.q), queries, dtype=torch.bool)
    return torch.arange(known - queries, known) < case.keys[1, :, None]


def test_both_backends_that_need_nothing_are_here() -> None:
    assert {"reference", "sdpa"} <= set(BACKENDS)


# --- Outputs


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("length", LENGTHS)
def test_outputs(length: int, mask: str) -> None:
    heads, width = SHAPES[length]
    case = evolve(make(4, heads, width, length, seed=length), rows=MASKS[mask](length, 0), keys=ragged(4, length))
    truth = formula(case)
    assert error(by_identity(case), truth) < 1e-12
    for backend in BACKENDS:
        assert error(run(backend, case), truth) < 1e-12
        assert error(run(backend, case.to(torch.float32)), truth) < 1e-5
        assert error(run(backend, case.to(torch.bfloat16)), truth) < 1e-2


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("earlier", [7, 70])
def test_outputs_with_keys_of_earlier_frames(earlier: int, mask: str) -> None:
    for length in (1, 16, 33):
        case = evolve(make(2, 2, 32, length, earlier=earlier, seed=length), rows=MASKS[mask](length, earlier))
        truth = formula(case)
        assert error(by_identity(case), truth) < 1e-12
        for backend in BACKENDS:
            assert error(run(backend, case.to(torch.float32)), truth) < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_cache_that_is_still_filling(backend: str) -> None:
    """Its first keys are no frames of the recording."""
    case = evolve(make(3, 2, 16, 9, earlier=20), keys=torch.tensor([[0, 13, 20], [29, 29, 25]]))
    truth = formula(case)
    assert error(by_identity(case), truth) < 1e-12
    assert error(run(backend, case.to(torch.float32)), truth) < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_long_recording_in_float32(backend: str) -> None:
    case = make(1, 2, 64, 700)
    assert error(run(backend, case.to(torch.float32)), by_identity(case)) < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_query_gives_what_it_gives_among_others(backend: str) -> None:
    case = make(2, 2, 32, 20).to(torch.float32)
    whole = run(backend, case)
    last = evolve(case, q=case.q[:, -1:], p=case.p[:20])
    torch.testing.assert_close(run(backend, last), whole[:, -1:], atol=1e-6, rtol=1e-5)


# --- Layout and masks


@pytest.mark.parametrize("backend", BACKENDS)
def test_inputs_need_not_be_contiguous(backend: str) -> None:
    case = evolve(make(2, 4, 16, 21, earlier=3), rows=window(21, 3, 6, 2), keys=torch.tensor([[0, 0], [24, 20]])).to(
        torch.float32
    )

    def scattered(x: Tensor) -> Tensor:
        """Equal values, every second element of a transposed and wider tensor."""
        wide = torch.full((*reversed(x.shape),), math.nan, dtype=x.dtype).repeat_interleave(2, dim=0)
        view = wide[::2].permute(*reversed(range(x.ndim)))
        return view.copy_(x)

    moved = Case(*(scattered(t) for t in case.tensors), w=case.w, rows=scattered(case.rows.float()).long(), keys=case.keys)  # type: ignore[union-attr]
    assert not any(t.is_contiguous() for t in moved.tensors)
    torch.testing.assert_close(run(backend, moved), run(backend, case), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_inputs_stay_as_they_are(backend: str) -> None:
    case = evolve(make(2, 2, 16, 12), rows=window(12, 0, 3, 3), keys=torch.tensor([[0, 0], [12, 5]]))
    before = [t.clone() for t in (*case.tensors, case.rows, case.keys)]  # type: ignore[union-attr]
    run(backend, case)
    assert all(torch.equal(a, b) for a, b in zip((*case.tensors, case.rows, case.keys), before, strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("poison", [1e30, -1e30])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_padding_does_not_leak(backend: str, mask: str, poison: float) -> None:
    length = 40
    case = evolve(make(4, 2, 32, length), rows=MASKS[mask](length, 0), keys=ragged(4, length)).to(torch.float32)
    valid = valid_queries(case)
    q, k, v = (torch.where(valid[..., None, None], t, poison) for t in (case.q, case.k, case.v))
    clean, dirty = run(backend, case), run(backend, evolve(case, q=q, k=k, v=v))
    torch.testing.assert_close(dirty[valid], clean[valid], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_query_that_sees_nothing_gives_zero(backend: str, dtype: torch.dtype) -> None:
    rows = torch.tensor(
        [[0, 3, 9, 0, -5], [2, 3, 4, 99, 0]]
    )  # a window; empty; empty; all; nothing but what lies before the start
    case = evolve(make(2, 2, 16, 5), rows=rows, keys=torch.tensor([[0, 0], [5, 0]]))
    out = run(backend, case.to(dtype))
    assert (out[1] == 0).all() and (out[0, [1, 2, 4]] == 0).all()
    assert (out[0, [0, 3]] != 0).all()
    assert error(out, formula(case)) < 1e-2


# --- Gradients


def gradients(function: Callable[[Case], Tensor], case: Case, weights: Tensor) -> list[Tensor]:
    leaves = [t.clone().requires_grad_() for t in case.tensors]
    out = function(Case(*leaves, w=case.w, rows=case.rows, keys=case.keys))
    return list(torch.autograd.grad((out * weights.to(out.dtype)).sum(), leaves))


@pytest.mark.parametrize("mask", ["full", "asymmetric", "chunks"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients(backend: str, mask: str) -> None:
    """Of all inputs, at an odd length and width, with padding and a recording without any frame."""
    case = evolve(make(3, 2, 20, 33, earlier=4), rows=MASKS[mask](33, 4), keys=torch.tensor([[0, 0, 0], [37, 0, 22]]))
    weights = torch.randn(case.q.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    truth = gradients(formula, case, weights)
    for dtype, largest in ((torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
        found = gradients(lambda c: run(backend, c), case.to(dtype), weights)
        assert [error(ours, theirs) < largest for ours, theirs in zip(found, truth, strict=True)] == [True] * 6, dtype


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_numerically(backend: str) -> None:
    case = evolve(make(2, 1, 2, 4, earlier=1), rows=window(4, 1, 2, 1), keys=torch.tensor([[0, 0], [5, 3]]))
    leaves = [t.clone().requires_grad_() for t in case.tensors]
    assert torch.autograd.gradcheck(
        lambda *tensors: run(backend, Case(*tensors, w=case.w, rows=case.rows, keys=case.keys)), leaves
    )


# --- Blocks of queries


@pytest.mark.parametrize("mask", ["full", "asymmetric", "chunks"])
@pytest.mark.parametrize("earlier", [0, 11])
def test_blocks_of_queries_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch, mask: str, earlier: int) -> None:
    length = 77
    case = evolve(
        make(2, 2, 16, length, earlier=earlier),
        rows=MASKS[mask](length, earlier),
        keys=torch.tensor([[0, 0], [earlier + length, 60]]),
    )
    weights = torch.randn(case.q.shape, dtype=torch.float64)
    whole, whole_gradients = run("sdpa", case), gradients(lambda c: run("sdpa", c), case, weights)
    blocks: list[int] = []
    fused = functional.scaled_dot_product_attention

    def counting(query: Tensor, *args: Tensor, **options: Tensor) -> Tensor:
        blocks.append(query.shape[2])
        return fused(query, *args, **options)

    monkeypatch.setattr(sdpa.functional, "scaled_dot_product_attention", counting)
    monkeypatch.setattr(sdpa, "_LARGEST_BIAS", 1)
    split, split_gradients = run("sdpa", case), gradients(lambda c: run("sdpa", c), case, weights)
    assert blocks == [16, 16, 16, 16, 13] * 2
    torch.testing.assert_close(split, whole, atol=1e-12, rtol=1e-12)
    for ours, theirs in zip(split_gradients, whole_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-11, rtol=1e-11)
