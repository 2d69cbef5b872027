"""A stream, fed in any pieces, gives what the whole recording gives at once."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from sonant_encoders.conformer.config import ConformerConfig
from sonant_encoders.conformer.model import Conformer, StreamState

F = 10
CAUSAL: dict[str, Any] = {
    "n_layers": 3,
    "d_model": 16,
    "n_heads": 2,
    "ff_expansion_factor": 2,
    "conv_kernel_size": 5,
    "subsampling_conv_channels": 4,
    "subsampling_factor": 4,
    "causal_downsampling": True,
    "conv_context_size": "causal",
    "conv_norm_type": "layer_norm",
    "att_context_style": "chunked_limited",
}
OPTIONS: list[dict[str, Any]] = [
    {"att_context_size": [8, 3]},
    {"att_context_size": [0, 4]},
    {"att_context_size": [6, 0]},
    {"att_context_size": [-1, 2]},
    {"att_context_size": [12, 5], "subsampling": "dw_striding", "subsampling_factor": 8},
    {"att_context_size": [3, 0], "subsampling": "dw_striding", "subsampling_factor": 8},
    {"att_context_size": [4, 1], "subsampling_factor": 2, "conv_norm_type": "batch_norm"},
    {"att_context_size": [5, 0], "att_context_style": "regular"},
    {"att_context_size": [-1, 0], "att_context_style": "regular", "subsampling": "dw_striding", "subsampling_factor": 8},
    {"att_context_size": [5, 0], "att_context_style": "regular", "self_attention_model": "rel_pos_local_attn"},
    {"att_context_size": [4, 3], "feat_out": 6, "xscaling": False, "use_bias": False, "conv_kernel_size": 1},
]


def build(**options: Any) -> Conformer:
    torch.manual_seed(0)
    model = Conformer(ConformerConfig(**CAUSAL | options), d_in=F).double().eval()
    for layer in model.layers:
        torch.nn.init.normal_(layer.attention.pos_bias_u)
        torch.nn.init.normal_(layer.attention.pos_bias_v)
    return model


def features(*sizes: int) -> Tensor:
    return torch.randn(*sizes, F, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def stream(model: Conformer, feats: Tensor, lens: Tensor, pieces: list[int], **options: Any) -> tuple[Tensor, Tensor]:
    """Feed so many features after another, then the rest as the last piece."""
    state, at = model.init_state(len(feats)), 0
    outputs, counts = [], torch.zeros_like(lens)
    for size in pieces:
        full = torch.full_like(lens, size)
        out, count, state = model.step(feats[:, at : at + size], full, state, **options)
        assert count.tolist() == [out.shape[1]] * len(feats) and state.frames == sum(o.shape[1] for o in outputs) + out.shape[1]
        outputs.append(out)
        counts += count
        at += size
    out, count, _ = model.step(feats[:, at:], lens - at, state, last=True, **options)
    return torch.cat([*outputs, out], dim=1), counts + count


def cut(total: int, generator: random.Random, longest: int) -> list[int]:
    """Random sizes, zero among them, that leave something for the last piece or nothing."""
    sizes = []
    while sum(sizes) < total:
        sizes.append(min(generator.randint(0, longest), total - sum(sizes)))
    return sizes[: generator.choice([len(sizes), len(sizes) - 1])]


def assert_equal(found: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]) -> None:
    assert found[1].tolist() == wanted[1].tolist()
    for ours, whole, count in zip(found[0], wanted[0], wanted[1], strict=True):
        torch.testing.assert_close(ours[:count], whole[:count], atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("longest", [1, 7, 30, 200])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@torch.no_grad()
def test_any_pieces_give_what_the_whole_gives(options: dict[str, Any], longest: int) -> None:
    model = build(**options)
    assert model.streams
    feats, lens = features(2, 151), torch.tensor([151, 151])
    wanted = model(feats, lens)
    generator = random.Random(longest)
    for _ in range(1 if longest == 1 else 3):
        assert_equal(stream(model, feats, lens, cut(151, generator, longest)), wanted)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@torch.no_grad()
def test_recordings_may_end_within_the_last_piece(options: dict[str, Any]) -> None:
    model = build(**options)
    lens = torch.tensor([150, 141, 120, 100])
    feats = features(4, 150).masked_fill((torch.arange(150) >= lens[:, None])[..., None], 1e4)
    assert_equal(stream(model, feats, lens, [40, 33, 27]), model(feats, lens))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@torch.no_grad()
def test_recordings_shorter_than_a_chunk(options: dict[str, Any]) -> None:
    model = build(**options)
    for total in (0, 1, 2, 3, 7, 8, 9, 16, 17):
        feats, lens = features(1, total), torch.tensor([total])
        wanted = model(feats, lens)
        assert_equal(stream(model, feats, lens, []), wanted)
        assert_equal(stream(model, feats, lens, [1] * total), wanted)
        assert_equal(stream(model, feats, lens, [0, total]), wanted)


@torch.no_grad()
def test_frames_come_as_soon_as_their_chunk_is_whole() -> None:
    """Chunk n of c frames is whole once feature `factor * (c * (n + 1) - 1)` is there."""
    model = build(att_context_size=[8, 3])
    state, given = model.init_state(1), []
    for _ in range(60):
        out, _, state = model.step(features(1, 1), torch.tensor([1]), state)
        given.append(out.shape[1])
    assert [n for n, count in enumerate(given) if count] == [12, 28, 44] and set(given) == {0, 4}


@torch.no_grad()
def test_what_a_stream_remembers_is_bounded() -> None:
    model = build(att_context_size=[8, 3])
    state = model.init_state(1)
    sizes = set()
    for n in range(40):
        _, _, state = model.step(features(1, 16), torch.tensor([16]), state)
        if n > 5:
            sizes.add((state.pending.shape[1], state.caches[0].attention.k.shape[1], state.caches[0].convolution.shape[1]))
    assert len(sizes) == 1
    ((pending, keys, frames),) = sizes
    assert keys == 8 and frames == 4 and pending < 16 + 6 + 16


@torch.no_grad()
def test_a_state_can_be_used_again() -> None:
    model = build(att_context_size=[8, 3])
    feats = features(1, 100)
    _, _, state = model.step(feats[:, :40], torch.tensor([40]), model.init_state(1))
    before = [state.pending.clone(), *(t.clone() for c in state.caches for t in (c.attention.k, c.attention.v, c.convolution))]
    first = model.step(feats[:, 40:], torch.tensor([60]), state, last=True)[0]
    model.step(feats[:, 50:70], torch.tensor([20]), state)
    second = model.step(feats[:, 40:], torch.tensor([60]), state, last=True)[0]
    assert torch.equal(first, second)
    after = [state.pending, *(t for c in state.caches for t in (c.attention.k, c.attention.v, c.convolution))]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@torch.no_grad()
def test_streams_side_by_side_do_not_mix() -> None:
    model = build(att_context_size=[8, 3])
    feats = features(2, 90)
    pieces = [[20, 30], [37]]
    wanted = [stream(model, feats[n : n + 1], torch.tensor([90]), p)[0] for n, p in enumerate(pieces)]
    states = [model.init_state(1), model.init_state(1)]
    outputs: list[list[Tensor]] = [[], []]

    def feed(n: int, begin: int, end: int, last: bool = False) -> None:
        out, _, states[n] = model.step(feats[n : n + 1, begin:end], torch.tensor([end - begin]), states[n], last=last)
        outputs[n].append(out)

    feed(0, 0, 20)
    feed(1, 0, 37)
    feed(0, 20, 50)
    feed(1, 37, 90, last=True)
    feed(0, 50, 90, last=True)
    assert all(torch.equal(torch.cat(o, 1), w) for o, w in zip(outputs, wanted, strict=True))


@torch.no_grad()
def test_a_context_can_be_chosen() -> None:
    sizes = [[8, 3], [6, 0], [6, 1], [-1, 1]]
    model = build(att_context_size=sizes)
    feats, lens = features(1, 100), torch.tensor([100])
    for size in sizes:
        wanted = model(feats, lens, att_context_size=size)
        assert_equal(stream(model, feats, lens, [13, 40, 9], att_context_size=size), wanted)


@pytest.mark.parametrize(
    "options",
    [
        {"causal_downsampling": False},
        {"conv_context_size": None},
        {"conv_context_size": [3, 1]},
        {"conv_norm_type": "group_norm4"},
        {"att_context_size": [-1, -1]},
        {"att_context_size": [5, 1], "att_context_style": "regular"},
        {"att_context_size": [5, -1], "att_context_style": "regular"},
        {"att_context_size": [6, 2, 1], "att_context_style": "chunked_limited_with_rc"},
        {
            "att_context_size": [5, 0],
            "att_context_style": "regular",
            "self_attention_model": "rel_pos_local_attn",
            "global_tokens": 1,
        },
    ],
    ids=str,
)
def test_what_looks_ahead_does_not_stream(options: dict[str, Any]) -> None:
    model = build(**{"att_context_size": [8, 3]} | options)
    assert not model.streams
    with pytest.raises(ValueError, match="this encoder does not stream: that needs causal_downsampling: true"):
        model.init_state(1)


def test_a_context_that_looks_ahead_is_refused() -> None:
    model = build(att_context_size=[[5, 0], [5, 2]], att_context_style="regular")
    with pytest.raises(ValueError, match=r"att_context_size \[5, 2\] looks too far ahead to stream"):
        model.step(features(1, 8), torch.tensor([8]), model.init_state(1), att_context_size=[5, 2])


@torch.no_grad()
def test_a_stream_has_the_dtype_of_the_weights() -> None:
    model = build(att_context_size=[8, 3]).to(torch.bfloat16)
    state: StreamState = model.init_state(1)
    out, _, state = model.step(features(1, 60).float(), torch.tensor([60]), state)
    assert out.dtype == state.pending.dtype == state.caches[0].attention.k.dtype == torch.bfloat16
    assert out.shape[1] > 0 and out.isfinite().all()
