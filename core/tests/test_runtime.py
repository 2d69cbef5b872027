"""Batches by length, results in order and early, failures that stay with their recording, and models put where they belong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sonant import runtime
from sonant.errors import AudioError, ConfigError
from sonant.inputs import Item
from sonant.results import Failure
from sonant.runtime import Batch, Batching, plan, process

RATE = 100  # a hundred samples a second keep the tests small


def recordings(durations: Sequence[float]) -> list[Item]:
    """Each holds its own number in every sample."""
    return [Item(np.full(round(d * RATE), n, np.float32), f"recording {n}") for n, d in enumerate(durations)]


class Model:
    """Answers with the number it hears, and remembers what it was given."""

    def __init__(self, fails: Callable[[Batch], Exception | None] = lambda batch: None) -> None:
        self.batches: list[Batch] = []
        self.fails = fails

    def __call__(self, batch: Batch) -> list[tuple[int, int]]:
        self.batches.append(batch)
        error = self.fails(batch)
        if error is not None:
            raise error
        return [(int(wav[0]), int(n)) for wav, n in zip(batch.wav, batch.lens, strict=True)]


def random_durations(seed: int, count: int) -> list[float]:
    return np.random.default_rng(seed).lognormal(0, 1, count).round(2).clip(0.05).tolist()


# Planning ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("batch_size", "batch_seconds"), [(1, None), (4, None), (16, 5.0), (1000, 3.0), (7, 0.01)])
def test_a_plan_holds_every_recording_once_and_keeps_its_limits(seed: int, batch_size: int, batch_seconds: float | None) -> None:
    durations = random_durations(seed, 50 + seed)
    batches = plan(durations, Batching(batch_size=batch_size, batch_seconds=batch_seconds))
    assert sorted(i for batch in batches for i in batch) == list(range(len(durations)))
    for batch in batches:
        assert 1 <= len(batch) <= batch_size
        padded = len(batch) * max(durations[i] for i in batch)
        assert batch_seconds is None or len(batch) == 1 or padded <= batch_seconds
    flat = [durations[i] for batch in batches for i in batch]
    assert flat == sorted(durations, reverse=True)


def test_a_plan_fills_its_batches() -> None:
    assert plan([1.0] * 10, Batching(batch_size=4)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert plan([1.0, 1.0, 5.0, 1.0], Batching(batch_size=4, batch_seconds=2.0)) == [[2], [0, 1], [3]]
    assert plan([], Batching()) == []


def test_a_long_recording_shares_no_batch() -> None:
    durations = [1.0, 50.0, 1.0, 30.0, 10.0, 10.5]
    assert plan(durations, Batching(batch_size=4, longest=10.0)) == [[1], [3], [5], [4, 0, 2]]
    assert plan(durations, Batching(batch_size=4)) == [[1, 3, 5, 4], [0, 2]]


def test_sorting_by_length_halves_the_padding_at_least() -> None:
    durations = random_durations(0, 512)
    in_order = [list(range(n, n + 16)) for n in range(0, 512, 16)]

    def padding(batches: list[list[int]]) -> float:
        return sum(len(b) * max(durations[i] for i in b) for b in batches) - sum(durations)

    assert padding(plan(durations, Batching(batch_size=16))) < padding(in_order) / 2


@pytest.mark.parametrize(
    "limits", [{"batch_size": 0}, {"batch_size": -1}, {"batch_seconds": 0.0}, {"batch_seconds": -2.0}, {"workers": 0}]
)
def test_impossible_limits_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="batch_size and workers must be at least 1, and batch_seconds more than 0"):
        Batching(**limits)


# Processing --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_the_order_of_the_recordings(seed: int, workers: int) -> None:
    durations = random_durations(seed, 97)
    model = Model()
    batching = Batching(batch_size=1 + seed, batch_seconds=[None, 4.0][seed % 2], workers=workers)
    results = list(process(recordings(durations), model, RATE, batching))
    assert results == [(n, round(d * RATE)) for n, d in enumerate(durations)]
    assert sum(len(batch.items) for batch in model.batches) == 97


def test_a_batch_is_padded_with_zeros_and_knows_its_recordings() -> None:
    model = Model()
    found = recordings([0.02, 0.05, 0.03])
    list(process(found, model, RATE))
    (batch,) = model.batches
    assert [item.name for item in batch.items] == ["recording 1", "recording 2", "recording 0"]
    assert batch.lens.tolist() == [5, 3, 2] and batch.lens.dtype == torch.int64
    assert batch.wav.dtype == torch.float32
    assert batch.wav.tolist() == [[1, 1, 1, 1, 1], [2, 2, 2, 0, 0], [0, 0, 0, 0, 0]]


def test_nothing_gives_nothing() -> None:
    assert list(process([], Model(), RATE)) == []


def test_the_rate_and_the_channel_reach_the_reader() -> None:
    stereo = np.stack([np.zeros(1000, np.float32), np.ones(1000, np.float32)])
    found = [Item((stereo, 2 * RATE), "stereo")]
    ((value, length),) = process(found, Model(), RATE, Batching(channel=0))
    assert (value, length) == (0, 500)
    (failure,) = process(found, Model(), RATE, Batching(channel=2), on_error="return")
    assert "no channel 2" in str(failure)


def test_first_results_are_there_long_before_the_last_recording_is_touched() -> None:
    """A run over a million files must not wait for the millionth."""
    model = Model()
    found = recordings([0.05] * 2000)
    results = process(found, model, RATE, Batching(batch_size=4))
    assert not model.batches  # nothing is done before somebody asks
    assert [next(results)[0] for _ in range(3)] == [0, 1, 2]
    assert sum(len(batch.items) for batch in model.batches) <= 100
    results.close()


def test_within_a_window_a_result_waits_only_for_those_before_it() -> None:
    model = Model()
    results = process(recordings([3.0, 2.0, 1.0, 0.5]), model, RATE, Batching(batch_size=1))
    for count in (1, 2, 3, 4):
        next(results)
        assert len(model.batches) == count


@pytest.mark.parametrize(("seconds", "ahead"), [(100.0, 2), (1000.0, 1)])
def test_hours_are_not_decoded_ahead(monkeypatch: pytest.MonkeyPatch, seconds: float, ahead: int) -> None:
    """Of recordings of so many seconds, while the model hears one, no more than half an hour waits decoded."""
    decoded: list[str] = []
    read = Item.read
    monkeypatch.setattr(Item, "read", lambda self, *args: (decoded.append(self.name), read(self, *args))[1])
    known: list[int] = []

    def model(batch: Batch) -> list[int]:
        threading.Event().wait(0.1)  # what is decoded ahead gets the time for it
        known.append(len(decoded) - len(known) * 1)
        return [0]

    list(process(recordings([seconds] * 4), model, RATE, Batching(batch_size=1)))
    assert known == [min(ahead, 4 - n) for n in range(4)]


def test_one_recording_is_not_copied() -> None:
    sound = np.ones(1000, np.float32)
    model = Model()
    list(process([Item(sound, "one")], model, RATE))
    assert model.batches[0].wav.data_ptr() == sound.ctypes.data


def test_a_batch_gives_its_recordings_one_by_one() -> None:
    model = Model()
    list(process(recordings([0.3, 0.1, 0.2]), model, RATE))
    (batch,) = model.batches
    assert [(one.wav.tolist(), one.lens.tolist(), one.items[0].name) for one in batch.each()] == [
        ([[0.0] * 30], [30], "recording 0"),
        ([[2.0] * 20], [20], "recording 2"),
        ([[1.0] * 10], [10], "recording 1"),
    ]


def test_recordings_are_decoded_ahead_in_other_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[str] = set()
    read = Item.read

    def noticed(self: Item, *args: Any) -> Any:
        threads.add(threading.current_thread().name)
        return read(self, *args)

    monkeypatch.setattr(Item, "read", noticed)
    list(process(recordings([0.1] * 20), Model(), RATE, Batching(batch_size=2)))
    assert threads and threading.current_thread().name not in threads
    assert not [t for t in threading.enumerate() if t.name.startswith("sonant-audio")]  # and they are gone afterwards


# Failures ----------------------------------------------------------------------------------------------------------------


def with_a_bad_one(tmp_path: Path) -> list[Item]:
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    return [
        *recordings([0.3, 0.1]),
        Item(tmp_path / "bad.wav", "bad.wav"),
        Item(tmp_path / "none.wav", "none.wav"),
        *recordings([0.2]),
    ]


def test_a_recording_that_cannot_be_read_is_returned_in_its_place(tmp_path: Path) -> None:
    results = list(process(with_a_bad_one(tmp_path), Model(), RATE, on_error="return"))
    assert [isinstance(r, Failure) for r in results] == [False, False, True, True, False]
    assert [r for r in results if not isinstance(r, Failure)] == [(0, 30), (1, 10), (0, 20)]
    assert str(results[2]).startswith("bad.wav: not readable as audio")
    assert str(results[3]) == "none.wav: there is no such file"


def test_or_it_is_raised_by_name_after_what_was_before_it(tmp_path: Path) -> None:
    results = process(with_a_bad_one(tmp_path), Model(), RATE)
    assert [next(results), next(results)] == [(0, 30), (1, 10)]
    with pytest.raises(AudioError, match=r"^bad\.wav: not readable as audio"):
        next(results)


def test_damage_found_late_stays_with_its_recording(tmp_path: Path) -> None:
    """Its header is fine, so that it is planned; its samples are not."""
    found = recordings([0.1, 0.1, 0.1])
    found[1].source[3] = np.nan
    results = list(process(found, Model(), RATE, on_error="return"))
    assert [isinstance(r, Failure) for r in results] == [False, True, False]
    assert str(results[1]) == "recording 1: 1 of 10 samples are not finite numbers"


@pytest.mark.parametrize("error", [RuntimeError("out of memory\nlong story"), RuntimeError(""), MemoryError()])
def test_a_batch_that_fails_is_tried_one_by_one(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    model = Model(lambda batch: error if len(batch.items) > 1 else None)
    results = list(process(recordings([0.1, 0.3, 0.2]), model, RATE))
    assert results == [(0, 10), (1, 30), (2, 20)]
    assert [len(batch.items) for batch in model.batches] == [3, 1, 1, 1]
    assert all(batch.wav.shape[1] == int(batch.lens[0]) for batch in model.batches[1:])
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    assert f"a batch of 3 failed ({reason}); trying its recordings one by one" in caplog.text


def test_only_the_recording_that_fails_alone_fails() -> None:
    model = Model(lambda batch: RuntimeError("no") if any(item.name == "recording 1" for item in batch.items) else None)
    results = list(process(recordings([0.1] * 5), model, RATE, Batching(batch_size=2), on_error="return"))
    assert [isinstance(r, Failure) for r in results] == [False, True, False, False, False]
    assert str(results[1]) == "recording 1: no"
    with pytest.raises(RuntimeError, match="no") as caught:
        list(process(recordings([0.1] * 5), model, RATE))
    assert caught.value.__notes__ == ["while processing recording 1"]


def test_a_mistake_in_the_options_is_no_failure_of_the_recordings() -> None:
    model = Model(lambda batch: ConfigError("there is no such search"))
    with pytest.raises(ConfigError, match="no such search"):
        list(process(recordings([0.1] * 5), model, RATE, on_error="return"))
    assert len(model.batches) == 1


# Placing -----------------------------------------------------------------------------------------------------------------


class Exact(nn.Module):
    float32_only = True

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)
        self.register_buffer("filters", torch.eye(3))
        self.register_buffer("count", torch.tensor(3))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = Exact()
        self.first = nn.Linear(3, 3)
        self.tied = nn.Linear(3, 3)
        self.tied.weight = self.first.weight
        self.norm = nn.BatchNorm1d(3)


def dtypes(model: nn.Module) -> dict[str, torch.dtype]:
    return {name: tensor.dtype for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16", "auto"])
def test_placing_casts_floats_except_where_only_float32_will_do(name: str) -> None:
    model = Net()
    assert runtime.place(model, "cpu", name) is model
    wanted = runtime.DTYPES.get(name, torch.float32)  # on a processor, auto is float32
    integers = {"features.count", "norm.num_batches_tracked"}
    for key, dtype in dtypes(model).items():
        expected = torch.int64 if key in integers else torch.float32 if key.startswith("features.") else wanted
        assert dtype == expected, key
    assert model.tied.weight is model.first.weight


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float64])
def test_what_only_float32_will_do_for_is_made_float32_from_any_stored_kind(stored: torch.dtype) -> None:
    found = dtypes(runtime.place(Net().to(stored), "cpu", "bfloat16"))
    assert found["features.filters"] == found["features.inner.weight"] == torch.float32
    assert found["first.weight"] == torch.bfloat16


def test_stored_leaves_every_tensor_as_it_is() -> None:
    model = Net()
    model.first.bfloat16()
    model.features.half()
    before = dtypes(model)
    assert len(set(before.values())) == 4
    assert dtypes(runtime.place(model, "cpu", "stored")) == before


def test_gradients_and_training_survive_placing() -> None:
    model = runtime.place(Net(), "cpu", "float32")
    model.first(torch.ones(1, 3)).sum().backward()
    assert model.first.weight.grad is not None
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("name", ["gpu", "", "cpu:x", "vulkan", "cuda:99"])
def test_a_device_that_is_not_here_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"device '{name}' cannot be used here \(.+\); 'auto' and 'cpu' always can"):
        runtime.choose_device(name)


def test_auto_is_a_device_that_is_here() -> None:
    assert runtime.choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert runtime.choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["fp16", "int8", "", "Float32"])
def test_a_dtype_that_is_not_known_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(ConfigError, match=f"dtype '{name}' is not known; there are: auto, float32, bfloat16, float16, stored"):
        runtime.choose_dtype(name, torch.device("cpu"))
