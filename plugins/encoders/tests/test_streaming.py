"""A stream, fed in any pieces, gives what the whole recording gives at once."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from sonant_encoders.conformer.config import ConformerConfig
from sonant_encoders.conformer.model import Conformer
from sonant_encoders.conformer.streaming import StreamState

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
    states, at = [model.init_state() for _ in feats], 0
    outputs, counts = [], torch.zeros_like(lens)
    for size in pieces:
        full = torch.full_like(lens, size)
        out, count, states = model.step(feats[:, at : at + size], full, states, last=[False] * len(feats), **options)
        counts += count
        assert count.tolist() == [out.shape[1]] * len(feats) and [s.frames for s in states] == counts.tolist()
        outputs.append(out)
        at += size
    out, count, _ = model.step(feats[:, at:], lens - at, states, last=[True] * len(feats), **options)
    return torch.cat([*outputs, out], dim=1), counts + count


def step(model: Conformer, feats: Tensor, state: StreamState, last: bool = False, **options: Any) -> tuple[Tensor, StreamState]:
    """One stream, `(T, F)` to `(T', D)`."""
    out, count, (state,) = model.step(feats[None], torch.tensor([len(feats)]), [state], last=[last], **options)
    return out[0, : int(count)], state


def cut(total: int, generator: random.Random, longest: int) -> list[int]:
    """Random sizes, zero among them, that leave something for the last piece or nothing."""
    sizes: list[int] = []
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
    state, given = model.init_state(), []
    for _ in range(60):
        out, state = step(model, features(1), state)
        given.append(len(out))
    assert [n for n, count in enumerate(given) if count] == [12, 28, 44] and set(given) == {0, 4}


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@torch.no_grad()
def test_what_it_needs_is_what_it_takes(options: dict[str, Any]) -> None:
    """Counted by feeding one feature at a time."""
    model = build(**options)
    state, needed, waited = model.init_state(), [], []
    announced, since = model.needs(state), 0
    for _ in range(140):
        out, state = step(model, features(1), state)
        since += 1
        assert len(out) > 0 or model.needs(state) == announced - since
        if len(out):
            needed.append(announced)
            waited.append(since)
            announced, since = model.needs(state), 0
    assert needed == waited and len(needed) > 2
    assert set(waited[1:]) == {model.chunk()}


@torch.no_grad()
def test_what_a_stream_remembers_is_bounded() -> None:
    model = build(att_context_size=[8, 3])
    state = model.init_state()
    sizes = set()
    for n in range(40):
        _, state = step(model, features(16), state)
        if n > 5:
            assert state.cache is not None
            sizes.add((len(state.pending), state.keys, state.cache.convolution.shape[1]))
    assert len(sizes) == 1
    ((pending, keys, frames),) = sizes
    assert keys == 8 and frames == 4 and pending < 16 + 6 + 16


def tensors(state: StreamState) -> list[Tensor]:
    assert state.cache is not None
    return [state.pending, state.cache.attention.k, state.cache.attention.v, state.cache.convolution]


@torch.no_grad()
def test_a_state_can_be_used_again() -> None:
    model = build(att_context_size=[8, 3])
    feats = features(100)
    _, state = step(model, feats[:40], model.init_state())
    before = [t.clone() for t in tensors(state)]
    first, _ = step(model, feats[40:], state, last=True)
    step(model, feats[50:70], state)
    second, _ = step(model, feats[40:], state, last=True)
    assert torch.equal(first, second)
    assert all(torch.equal(a, b) for a, b in zip(before, tensors(state), strict=True))


@torch.no_grad()
def test_a_stream_keeps_nothing_of_its_neighbours_alive() -> None:
    model = build(att_context_size=[8, 3])
    states = [model.init_state() for _ in range(5)]
    _, _, states = model.step(features(5, 60), torch.full((5,), 60), states, last=[False] * 5)
    for state in states:
        for tensor in tensors(state):
            assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@torch.no_grad()
def test_streams_come_and_go(options: dict[str, Any]) -> None:
    """Each as if it were alone, whoever else is in the batch, at whatever position, in pieces of whatever size."""
    model = build(**options)
    generator = random.Random(3)
    sizes = [generator.randint(1, 160) for _ in range(12)]
    recordings = [features(n) * (1 + i) for i, n in enumerate(sizes)]
    wanted = [model(r[None], torch.tensor([len(r)])) for r in recordings]
    waiting, live = list(range(len(sizes))), dict[int, tuple[int, StreamState]]()
    outputs: list[list[Tensor]] = [[] for _ in sizes]
    while waiting or live:
        while waiting and len(live) < 5 and (not live or generator.random() < 0.5):
            live[waiting.pop(0)] = (0, model.init_state())
        chosen = generator.sample(sorted(live), generator.randint(1, len(live)))
        pieces = [recordings[n][live[n][0] :][: generator.randint(0, 50)] for n in chosen]
        last = [live[n][0] + len(p) == sizes[n] and generator.random() < 0.5 for n, p in zip(chosen, pieces, strict=True)]
        lens = torch.tensor([len(p) for p in pieces])
        feats = torch.nn.utils.rnn.pad_sequence(pieces, batch_first=True, padding_value=1e4)
        out, counts, states = model.step(feats, lens, [live[n][1] for n in chosen], last=last)
        for n, piece, frames, count, state, ends in zip(chosen, pieces, out, counts, states, last, strict=True):
            outputs[n].append(frames[:count])
            live[n] = (live[n][0] + len(piece), state)
            if ends:
                del live[n]
    for found, (whole, count) in zip(outputs, wanted, strict=True):
        assert_equal((torch.cat(found)[None], torch.tensor([sum(map(len, found))])), (whole, count))


@torch.no_grad()
def test_a_context_can_be_chosen() -> None:
    sizes = [[8, 3], [6, 0], [6, 1], [-1, 1]]
    model = build(att_context_size=sizes)
    feats, lens = features(1, 100), torch.tensor([100])
    for size in sizes:
        wanted = model(feats, lens, att_context_size=size)
        assert_equal(stream(model, feats, lens, [13, 40, 9], att_context_size=size), wanted)


@torch.no_grad()
def test_a_context_can_change_on_the_way() -> None:
    """As in a whole recording whose chunks have these lengths, each frame seeing as far back as its own context says."""
    model = build(att_context_size=[[4, 0], [4, 3]])
    feats = features(60)
    state, found = model.init_state(), []
    for begin, end, size in ((0, 25, [4, 3]), (25, 37, [4, 0]), (37, 60, [4, 3])):
        out, state = step(model, feats[begin:end], state, last=end == 60, att_context_size=size)
        found.append(out)
    assert [len(out) for out in found] == [4, 6, 6]
    starts = [0, 0, 0, 0] + [i - 4 for i in range(4, 10)] + [6] * 4 + [10] * 2
    stops = [4] * 4 + [i + 1 for i in range(4, 10)] + [14] * 4 + [18] * 2

    def seen(*_: Any) -> Tensor:
        return torch.tensor([starts, stops])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sonant_encoders.blocks.context.intervals", seen)
        whole, count = model(feats[None], torch.tensor([60]), att_context_size=[4, 3])
    assert_equal((torch.cat(found)[None], torch.tensor([16])), (whole, count))


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
        model.init_state()


def test_a_context_that_looks_ahead_is_refused() -> None:
    model = build(att_context_size=[[5, 0], [5, 2]], att_context_style="regular")
    with pytest.raises(ValueError, match=r"att_context_size \[5, 2\] looks too far ahead to stream"):
        step(model, features(8), model.init_state(), att_context_size=[5, 2])
    with pytest.raises(ValueError, match=r"att_context_size \[5, 2\] looks too far ahead to stream"):
        model.needs(model.init_state(), att_context_size=[5, 2])


@torch.no_grad()
def test_a_stream_has_the_dtype_of_the_weights() -> None:
    model = build(att_context_size=[8, 3]).to(torch.bfloat16)
    out, state = step(model, features(60).float(), model.init_state())
    assert {out.dtype, *(t.dtype for t in tensors(state))} == {torch.bfloat16}
    assert len(out) > 0 and out.isfinite().all()
