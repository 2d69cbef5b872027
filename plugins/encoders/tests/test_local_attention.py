"""Attention in a window: blocks of queries with the keys in their reach, global tokens, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sonant import kernels
from sonant_encoders.blocks import context
from sonant_encoders.blocks.attention import RelPosAttention, Visibility
from sonant_encoders.blocks.global_tokens import GlobalTokens
from sonant_encoders.blocks.linear import Linear
from sonant_encoders.conformer.config import ConformerConfig
from sonant_encoders.conformer.model import Conformer
from sonant_encoders.kernels.rel_pos_attention import sdpa

BACKENDS = ["reference", "sdpa"]
WIDTH, HEADS = 24, 3
CONTEXTS: list[tuple[Any, list[int]]] = [
    ("regular", [5, 5]),
    ("regular", [16, 3]),
    ("regular", [0, 6]),
    ("regular", [0, 0]),
    ("regular", [-1, 0]),
    ("regular", [4, -1]),
    ("chunked_limited", [16, 7]),
    ("chunked_limited", [-1, 3]),
    ("chunked_limited_with_rc", [6, 4, 3]),
]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def attention(backend: str = "auto", **options: Any) -> RelPosAttention:
    """In float64, with biases that do something; `options` are those of the global tokens."""
    torch.manual_seed(0)
    tokens = GlobalTokens(WIDTH, HEADS, **options) if options else None
    module = RelPosAttention(WIDTH, HEADS, backend=backend, global_tokens=tokens).double().eval()
    torch.nn.init.normal_(module.pos_bias_u)
    torch.nn.init.normal_(module.pos_bias_v)
    return module


# --- The operation


def inputs(queries: int, earlier: int, style: Any, size: list[int], batch: int = 2) -> tuple[list[Tensor], dict[str, Any]]:
    """q, k, v, p and the biases, p for all distances; and the keyword arguments but the reach."""
    known = earlier + queries
    tensors = [draw(batch, n, HEADS, 8, seed=n + i) for i, n in enumerate((queries, known, known))]
    tensors += [draw(known + queries - 1, HEADS, 8, seed=5), draw(HEADS, 8, seed=6), draw(HEADS, 8, seed=7)]
    rows = context.intervals(style, size, earlier, queries, torch.device("cpu"))
    keys = torch.tensor([[0, 2], [known, known - 3]])
    return tensors, {"rows": rows, "keys": keys}


def within(tensors: list[Tensor], style: Any, size: list[int]) -> tuple[list[Tensor], tuple[int, int]]:
    """The same with the distances within reach alone."""
    q, k, v, p, u, v_bias = tensors
    known, queries = k.shape[1], q.shape[1]
    far, near = context.reach(style, size)
    before, after = known - 1 if far < 0 else min(far, known - 1), queries - 1 if near < 0 else min(near, queries - 1)
    return [q, k, v, p[known - 1 - before : known + after], u, v_bias], (before, after)


@pytest.mark.parametrize("least", [8, 64])
@pytest.mark.parametrize(("queries", "earlier"), [(1, 0), (2, 9), (100, 0), (75, 40)])
@pytest.mark.parametrize(("style", "size"), CONTEXTS, ids=str)
def test_keys_beyond_reach_need_not_be_there(
    monkeypatch: pytest.MonkeyPatch, style: Any, size: list[int], queries: int, earlier: int, least: int
) -> None:
    """Without a reach, every query is scored against every key."""
    tensors, options = inputs(queries, earlier, style, size)
    truth = kernels.get("rel_pos_attention", "cpu", "reference")(*tensors, **options)
    near, reach = within(tensors, style, size)
    monkeypatch.setattr(sdpa, "_LEAST_ROWS", least)
    for backend in BACKENDS:
        attend = kernels.get("rel_pos_attention", "cpu", backend)
        torch.testing.assert_close(attend(*near, **options, reach=reach), truth, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(("style", "size"), CONTEXTS, ids=str)
def test_gradients_with_a_reach(monkeypatch: pytest.MonkeyPatch, style: Any, size: list[int]) -> None:
    monkeypatch.setattr(sdpa, "_LEAST_ROWS", 4)
    tensors, options = inputs(41, 3, style, size)
    weights = draw(2, 41, HEADS, 8, seed=9)

    def gradients(backend: str, limited: bool) -> list[Tensor]:
        leaves = [t.clone().requires_grad_() for t in tensors]
        near, reach = within(leaves, style, size)
        attend = kernels.get("rel_pos_attention", "cpu", backend)
        out = attend(*near, **options, reach=reach) if limited else attend(*leaves, **options)
        return list(torch.autograd.grad((out * weights).sum(), leaves))

    truth = gradients("reference", limited=False)
    for backend in BACKENDS:
        for ours, theirs in zip(gradients(backend, limited=True), truth, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-11, rtol=1e-11)


def test_extra_keys_share_one_softmax_with_the_others() -> None:
    """Scores given for extra keys, against ordinary attention over both written out; -inf hides one, and all of one query."""
    tensors, options = inputs(30, 0, "regular", [4, 2])
    q, k, v, p, u, v_bias = tensors
    scores, values = draw(2, HEADS, 30, 3, seed=11), draw(2, 3, HEADS, 8, seed=12)
    scores[0, :, :, 1] = -math.inf
    options["rows"][1, 20] = options["rows"][0, 20]  # query 20 sees no other key
    scores[1, :, 20] = -math.inf
    i, j = torch.arange(30)[:, None], torch.arange(30)[None]
    local = torch.einsum("bihd,bjhd->bhij", q + u, k) + torch.einsum("bihd,ijhd->bhij", q + v_bias, p[29 - (i - j)])
    rows, keys = options["rows"], options["keys"]
    seen = (j >= rows[0, :, None]) & (j < rows[1, :, None])
    seen = seen & ((j >= keys[0, :, None]) & (j < keys[1, :, None]))[:, None]
    both = torch.cat([scores, (local / math.sqrt(8)).masked_fill(~seen[:, None], -math.inf)], dim=-1)
    truth = torch.einsum("bhij,bjhd->bihd", both.softmax(-1).nan_to_num(0.0), torch.cat([values, v], dim=1))
    assert (truth[1, 20] == 0).all() and (truth[0, 20] != 0).all()
    near, reach = within(tensors, "regular", [4, 2])
    for backend in BACKENDS:
        attend = kernels.get("rel_pos_attention", "cpu", backend)
        for found in (
            attend(*tensors, **options, extra=(scores, values)),
            attend(*near, **options, reach=reach, extra=(scores, values)),
        ):
            torch.testing.assert_close(found, truth, atol=1e-12, rtol=1e-12)


# --- Global tokens


def by_hand(module: RelPosAttention, x: Tensor, window: tuple[int, int]) -> Tensor:
    """One recording `(T, D)`, query by query and head by head, up to the output projection."""
    tokens = module.global_tokens
    assert tokens is not None
    frames = len(x)
    at = [f for f in range(0, tokens.count * tokens.spacing, tokens.spacing) if f < frames]

    def split(y: Tensor) -> Tensor:
        return y.view(frames, HEADS, -1)

    q, k, v = split(module.query(x)), split(module.key(x)), split(module.value(x))
    gq, gk, gv = (split(f(x)) for f in (tokens.query, tokens.key, tokens.value)) if tokens.separate else (q, k, v)
    table = module.position.table(frames - 1, frames - 1).view(-1, HEADS, WIDTH // HEADS)
    root = math.sqrt(WIDTH // HEADS)
    out = torch.zeros(frames, HEADS, WIDTH // HEADS, dtype=x.dtype)
    for h in range(HEADS):
        for i in range(frames):
            near = [j for j in range(frames) if i - window[0] <= j <= i + window[1]]
            scores = [gq[i, h] @ gk[j, h] / root for j in at]
            scores += [
                ((q[i, h] + module.pos_bias_u[h]) @ k[j, h] + (q[i, h] + module.pos_bias_v[h]) @ table[frames - 1 - (i - j), h])
                / root
                for j in near
            ]
            weights = torch.stack(scores).softmax(0)
            out[i, h] = sum(w * v[j, h] for w, j in zip(weights, [*at, *near], strict=True))
    # The queries of the tokens, token by token and head by head, are dealt out head by head.
    dealt = iter([gq[j, h] for j in at for h in range(HEADS)])
    for h in range(HEADS):
        for token in at:
            weights = (gk[:, h] @ next(dealt) / root).softmax(0)
            out[token, h] = weights @ gv[:, h]
    return out.view(frames, WIDTH)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "options",
    [
        {"count": 1},
        {"count": 1, "separate": True},
        {"count": 3},
        {"count": 4, "spacing": 5, "separate": True},
        {"count": 100, "spacing": 2},
    ],
    ids=str,
)
@torch.no_grad()
def test_global_tokens_by_hand(options: dict[str, Any], backend: str) -> None:
    module = attention(backend, **options)
    x = draw(3, 19, WIDTH)
    lens = torch.tensor([19, 11, 4])
    rows = context.intervals("regular", [3, 2], 0, 19, x.device)
    keys = torch.stack([torch.zeros_like(lens), lens])
    dirty = x.masked_fill((torch.arange(19) >= lens[:, None])[..., None], 1e3)
    found, _ = module(dirty, Visibility(rows, keys, (3, 2)))
    for ours, recording, length in zip(found, x, lens.tolist(), strict=True):
        truth = module.out(by_hand(module, recording[:length], (3, 2)))
        torch.testing.assert_close(ours[:length], truth, atol=1e-10, rtol=1e-10)


@torch.no_grad()
def test_a_global_token_carries_the_end_to_the_beginning() -> None:
    """In one layer of local attention, frame 5 knows nothing of the end, but the token does."""
    x = draw(1, 60, WIDTH)
    changed = x.clone()
    changed[:, 50] += 1
    rows = context.intervals("regular", [3, 3], 0, 60, x.device)
    for module, moved in (
        (attention(), list(range(47, 54))),
        (attention(count=1), [0, *range(47, 54)]),
    ):
        before, after = (module(y, Visibility(rows, None, (3, 3)))[0][0] for y in (x, changed))
        assert (before - after).abs().amax(-1).gt(1e-9).nonzero().flatten().tolist() == moved


# --- Windows of unequal sides as NeMo has them


@torch.no_grad()
def test_a_gap_moves_positions_away_from_the_query() -> None:
    """Without content, the weights are a function of distance: that of one `gap` frames nearer, and none where that is zero."""
    module = attention()
    torch.nn.init.zeros_(module.key.weight)
    torch.nn.init.zeros_(module.key.bias)
    torch.nn.init.zeros_(module.query.weight)
    for left, right in ((6, 4), (2, 5), (5, 0)):
        gap = (max(left, right) - left, max(left, right) - right)
        p, _ = module._positions(Visibility(None, None, (left, right), gap), 40, 40)
        plain, _ = module._positions(Visibility(None, None, (left, right)), 40, 40)
        for distance in range(-right, left + 1):
            nearer = distance - gap[0] if distance > 0 else distance + gap[1]
            wanted = plain[left - nearer] if (nearer > 0) == (distance > 0) else torch.zeros_like(plain[0])
            torch.testing.assert_close(p[left - distance], wanted)


# --- What it costs


class Counting(TorchDispatchMode):
    """The elements of all that is computed inside, and of the largest single tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.total = self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, Tensor) and not func.is_view:
                self.total += tensor.numel()
                self.largest = max(self.largest, tensor.numel())
        return out


def cost(compute: Callable[[], Any]) -> Counting:
    with torch.no_grad(), Counting() as counting:
        compute()
    return counting


@pytest.mark.parametrize(
    ("style", "size", "options"),
    [
        ("regular", [16, 16], {}),
        ("regular", [16, 16], {"count": 2, "spacing": 50}),
        ("regular", [40, 0], {}),
        ("chunked_limited", [28, 6], {}),
        ("chunked_limited_with_rc", [20, 10, 5], {}),
    ],
    ids=str,
)
def test_limited_attention_costs_in_proportion_to_the_length(style: Any, size: list[int], options: dict[str, Any]) -> None:
    module = attention(**options).float()

    def run(frames: int) -> Counting:
        rows = context.intervals(style, size, 0, frames, torch.device("cpu"))
        x = draw(1, frames, WIDTH).float()
        return cost(lambda: module(x, Visibility(rows, None, context.reach(style, size))))

    run(128)  # makes the table of positions
    once, twice = run(2048), run(4096)
    assert twice.total < 2.01 * once.total
    # Nothing is larger than an activation of the attention: what belongs to a block does not grow.
    assert once.largest == 2048 * WIDTH and twice.largest == 4096 * WIDTH


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are not packed, which is done once and for some lengths only."""
    monkeypatch.setattr(Linear, "_packs", lambda *_: False)


@pytest.mark.usefixtures("counted")
def test_full_attention_costs_the_square() -> None:
    """So that the count above counts."""
    module = attention().float()
    once, twice = (cost(lambda f=f: module(draw(1, f, WIDTH).float(), Visibility())) for f in (512, 1024))  # type: ignore[misc]
    assert twice.total > 3 * once.total


@pytest.mark.usefixtures("counted")
def test_an_encoder_limited_at_run_time_costs_in_proportion_to_the_length() -> None:
    config = ConformerConfig(n_layers=1, d_model=16, n_heads=2, subsampling_conv_channels=4, conv_kernel_size=5)
    model = Conformer(config, d_in=8).eval()

    def run(frames: int) -> Counting:
        feats, lens = draw(1, frames, 8).float(), torch.tensor([frames])
        return cost(lambda: model(feats, lens, att_context_size=[32, 32]))

    run(512)
    once, twice = run(8192), run(16384)
    assert twice.total < 2.01 * once.total and twice.largest <= 2 * once.largest
