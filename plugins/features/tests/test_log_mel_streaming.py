"""A recording in pieces gives the frames that it gives as a whole."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import Tensor

from sonant import config, registry
from sonant.registry import Registered
from sonant.testing import preprocessors
from sonant.testing.subject import Subject
from sonant_features.log_mel.config import LogMelConfig
from sonant_features.log_mel.model import LogMel
from sonant_features.log_mel.streaming import StreamState

OPTIONS: list[dict[str, Any]] = [
    {},
    {"preemph": None},
    {"window_size": 0.02, "window_stride": 0.02},
    {"window_size": 0.01, "window_stride": 0.03},
    {"n_fft": 401},
    {"n_fft": 1024, "frame_splicing": 2},
    {"pad_value": -3.0, "log_zero_guard_type": "clamp", "log_zero_guard_value": "eps"},
    {"normalize": "fixed", "fixed": {"mean": [float(n) for n in range(8)], "std": [1.0 + n for n in range(8)]}},
]


def build(**options: Any) -> LogMel:
    filled = config.fill(LogMelConfig, {"features": 8, "normalize": "none"} | options, "preprocessor")
    return LogMel(filled).eval()


def noise(samples: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def step(model: LogMel, piece: Tensor, state: StreamState, last: bool = False) -> tuple[Tensor, StreamState]:
    feats, count, (state,) = model.step(piece[None], torch.tensor([len(piece)]), [state], last=[last])
    return feats[0, : int(count)], state


def whole(model: LogMel, wav: Tensor) -> Tensor:
    feats, count = model(wav[None], torch.tensor([len(wav)]))
    return feats[0, : int(count)]


def stream(model: LogMel, wav: Tensor, sizes: list[int]) -> Tensor:
    state, found = model.init_state(), []
    for piece in wav.split(sizes):
        feats, state = step(model, piece, state)
        found.append(feats)
    return torch.cat([*found, step(model, wav[:0], state, last=True)[0]])


def cut(total: int, longest: int, generator: random.Random) -> list[int]:
    sizes: list[int] = []
    while sum(sizes) < total:
        sizes.append(min(generator.randint(0, longest), total - sum(sizes)))
    return sizes


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_any_pieces_give_what_the_whole_gives(options: dict[str, Any]) -> None:
    model, generator = build(**options), random.Random(0)
    for total, longest in ((5000, 5000), (5000, 1000), (4999, 170), (3201, 37)):
        wav = noise(total)
        torch.testing.assert_close(stream(model, wav, cut(total, longest, generator)), whole(model, wav), atol=1e-4, rtol=1e-5)


def test_one_sample_after_another() -> None:
    model, wav = build(), noise(900)
    torch.testing.assert_close(stream(model, wav, [1] * 900), whole(model, wav), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_recordings_of_hardly_a_frame(options: dict[str, Any]) -> None:
    model = build(**options)
    for total in (0, 1, 100, 159, 160, 161, 255, 256, 257, 320, 416, 512, 513):
        wav = noise(total)
        wanted = whole(model, wav)
        for sizes in ([total], [total // 3, total - total // 3]):
            torch.testing.assert_close(stream(model, wav, sizes), wanted, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_promises_of_the_kind_hold_when_it_streams(options: dict[str, Any]) -> None:
    found = registry.current().get("preprocessor", "log_mel")
    tiny = {"features": 8, "normalize": "none"} | options
    preprocessors.streaming_equals_offline(Subject(Registered(evolve(found.spec, tiny=tiny), found.plugin)))


def test_a_frame_comes_as_soon_as_its_window_is_full() -> None:
    """The window of frame t is centred on sample 160 t, and 512 samples wide."""
    model, state, came = build(), build().init_state(), []
    assert model.needs(state) == 256 and model.needs(state, 105) == 104 * 160 + 256
    for n, sample in enumerate(noise(1000).split(1)):
        feats, state = step(model, sample, state)
        came += [n + 1] * len(feats)
    assert came == [256, 416, 576, 736, 896]


def test_what_a_stream_remembers_is_bounded() -> None:
    model = build()
    _, state = step(model, noise(16000 * 60), model.init_state())
    assert len(state.pending) < 512 and state.pending.untyped_storage().nbytes() < 4 * 512
    assert state.before.untyped_storage().nbytes() == 4


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"normalize": "per_feature"}, r"normalized over the whole recording \(normalize: per_feature\)"),
        ({"normalize": "all_features"}, r"normalized over the whole recording \(normalize: all_features\)"),
        ({"exact_pad": True}, "exact_pad: true"),
    ],
)
def test_what_measures_the_whole_recording_does_not_stream(options: dict[str, Any], reason: str) -> None:
    model = build(**options)
    assert not model.streams
    with pytest.raises(ValueError, match=f"these features do not stream: .*{reason}"):
        model.init_state()
