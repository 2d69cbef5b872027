"""Which examples share a batch: what must hold of every epoch, by counting, and against lhotse's samplers."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import evolve

from sonant.config import fill
from sonant_training.data import bucketing, planning
from sonant_training.data.catalog import Catalog, open_catalog
from sonant_training.data.config import DataConfig
from sonant_training.data.planning import Pick, Plan
from sonant_training.errors import DataError

COUNT = 1000


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows alone: planning reads no audio. Durations spread as those of speech do; texts follow them loosely."""
    random = np.random.default_rng(7)
    seconds = np.clip(random.lognormal(1.0, 0.7, COUNT), 0.3, 20).round(3)
    words = np.maximum(1, (seconds * random.uniform(1, 4, COUNT)).astype(int))
    path = tmp_path_factory.mktemp("plan") / "rows.jsonl"
    rows = [
        {"audio_filepath": f"{n}.wav", "text": "w" * int(w), "duration": float(s)}
        for n, (s, w) in enumerate(zip(seconds, words, strict=True))
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def plan(manifest: Path, *, seed: int = 3, devices: int = 1, **values: Any) -> Plan:
    config = fill(DataConfig, {"manifest_filepath": str(manifest), **values}, "train_ds")
    return planning.make(open_catalog(config, Path()), config, seed=seed, devices=devices)


def lengths(made: Plan, pick: Pick) -> np.ndarray:
    return made.catalog.seconds[pick.examples] / pick.speeds


def padded(made: Plan, pick: Pick) -> float:
    return float(lengths(made, pick).max() * len(pick))


LIMITS: list[dict[str, Any]] = [
    {},
    {"batch_size": 7},
    {"batch_duration": 60.0},
    {"batch_duration": 60.0, "batch_size": 10},
    {"batch_duration": 60.0, "quadratic_duration": 15.0},
    {"batch_duration": 60.0, "num_buckets": 1},
    {"batch_duration": 40.0, "num_buckets": 5, "num_token_buckets": 3},
    {"bucket_duration_bins": [2, 5, 30], "bucket_batch_size": [20, 8, 2]},
    {"batch_duration": 60.0, "perturb": {"speed": [0.9, 1.0, 1.1]}},
    {"batch_duration": 60.0, "shuffle": False},
]


@pytest.mark.parametrize("values", LIMITS, ids=str)
@pytest.mark.parametrize("devices", [1, 3])
def test_an_epoch_has_every_example_and_no_batch_is_too_large(manifest: Path, values: dict[str, Any], devices: int) -> None:
    made = plan(manifest, devices=devices, **values)
    for epoch in (0, 1):
        batches = made.epoch(epoch)
        seen = Counter(int(example) for pick in batches for example in pick.examples)
        assert seen.keys() == set(range(COUNT))
        assert sum(seen.values()) - COUNT < devices  # what fills up the last batch for all devices
        assert {pick.epoch for pick in batches} == {epoch}
        for pick in batches:
            assert len(pick) % devices == 0
            share, seconds = len(pick) // devices, lengths(made, pick)
            if "batch_duration" in values and share > 1:
                dearest = float(seconds.max())
                dearest += dearest**2 / values["quadratic_duration"] if "quadratic_duration" in values else 0
                assert share * dearest <= values["batch_duration"] + 1e-6
            if "batch_duration" not in values or "batch_size" in values:
                assert share <= values.get("batch_size", 20 if "bucket_batch_size" in values else 16)
            if "bucket_batch_size" in values:
                assert share <= (20 if seconds.max() <= 2 else 8 if seconds.max() <= 5 else 2)


def test_batches_are_nearly_full_and_little_is_padding(manifest: Path) -> None:
    made = plan(manifest, batch_duration=60)
    batches = made.epoch(0)
    spent = sum(padded(made, pick) for pick in batches)
    assert spent / (60 * len(batches)) > 0.9
    assert made.catalog.seconds.sum() / spent > 0.85
    mixed = plan(manifest, batch_duration=60, num_buckets=1)
    assert mixed.catalog.seconds.sum() / sum(padded(mixed, pick) for pick in mixed.epoch(0)) < 0.6


def test_batches_and_padding_are_no_more_than_with_lhotses_sampler(manifest: Path) -> None:
    from lhotse import CutSet, MonoCut
    from lhotse.dataset.sampling import DynamicBucketingSampler

    made = plan(manifest, batch_duration=60, num_buckets=20)
    cuts = [MonoCut(id=str(n), start=0, duration=float(length), channel=0) for n, length in enumerate(made.catalog.seconds)]
    lazy = CutSet.from_cuts(cuts).repeat(1)  # the sampler warns of others
    sampler = DynamicBucketingSampler(lazy, max_duration=60, num_buckets=20, shuffle=True, rank=0, world_size=1)
    theirs = [[cut.duration for cut in batch] for batch in sampler]
    assert sum(map(len, theirs)) == COUNT
    ours = made.epoch(0)
    assert sum(padded(made, pick) for pick in ours) < 1.02 * sum(max(batch) * len(batch) for batch in theirs)
    assert len(ours) < 1.02 * len(theirs)


def test_estimated_buckets_hold_equal_shares() -> None:
    random = np.random.default_rng(0)
    seconds, tokens = random.uniform(1, 20, 5000), random.integers(1, 100, 5000)
    buckets = bucketing.estimate(seconds, tokens, 10, 1)
    shares = np.bincount(buckets.of(seconds, tokens), weights=seconds) / seconds.sum()
    assert shares == pytest.approx(np.full(10, 0.1), abs=0.005)
    divided = bucketing.estimate(seconds, tokens, 4, 3)
    assert len(divided) == 12
    counts = np.bincount(divided.of(seconds, tokens), minlength=12).reshape(4, 3)
    assert counts / counts.sum(axis=1, keepdims=True) == pytest.approx(np.full((4, 3), 1 / 3), abs=0.03)


def test_given_buckets_are_the_first_that_hold_an_example() -> None:
    bins = [[2.0, 10], [2.0, 30], [5.0, 20], [5.0, 60]]
    random = np.random.default_rng(1)
    seconds, tokens = random.uniform(0.1, 6, 500), random.integers(1, 70, 500)
    found = bucketing.given(bins, closed=True).of(seconds, tokens)
    for second, token, bucket in zip(seconds, tokens, found, strict=True):
        expected = next((n for n, (most, most_tokens) in enumerate(bins) if second <= most and token <= most_tokens), 4)
        assert bucket == expected
    flat = bucketing.given([2.0, 5.0], closed=False).of(seconds, tokens)
    assert (flat == np.where(seconds <= 2, 0, np.where(seconds <= 5, 1, 2))).all()


def test_what_is_beyond_the_last_of_closed_buckets_is_left_out(manifest: Path) -> None:
    made = plan(manifest, bucket_duration_bins=[2, 5], bucket_batch_size=[8, 4])
    seen = np.concatenate([pick.examples for pick in made.epoch(0)])
    assert sorted(seen) == np.flatnonzero(made.catalog.seconds <= 5).tolist()
    with pytest.raises(DataError, match="no example is in any of bucket_duration_bins"):
        plan(manifest, bucket_duration_bins=[0.1], bucket_batch_size=[8])


def test_token_buckets_put_texts_of_similar_length_together(manifest: Path) -> None:
    def wasted(made: Plan) -> float:
        tokens = [made.catalog.tokens[pick.examples] for pick in made.epoch(0)]
        return sum(int(t.max()) * len(t) for t in tokens) / sum(int(t.sum()) for t in tokens)

    flat = plan(manifest, batch_duration=30, num_buckets=4, max_tokens=10**6)
    divided = plan(manifest, batch_duration=30, num_buckets=4, num_token_buckets=4)
    assert wasted(divided) < 0.8 * wasted(flat)


@pytest.mark.parametrize("values", [{"batch_size": 4}, {"batch_duration": 50.0, "perturb": {"speed": [0.9, 1.1]}}], ids=str)
def test_skipping_is_leaving_out(manifest: Path, values: dict[str, Any]) -> None:
    made = plan(manifest, **values)
    epoch = len(made.epoch(0))
    whole = list(islice(made.batches(), 2 * epoch + 20))
    for skip in (0, 1, epoch - 1, epoch, epoch + 1, 2 * epoch + 3):
        for one, other in zip(whole[skip : skip + 10], plan(manifest, **values).batches(skip), strict=False):
            assert one.epoch == other.epoch
            assert (one.examples == other.examples).all() and (one.speeds == other.speeds).all()
            assert (one.copies == other.copies).all()


def test_order_depends_on_seed_and_epoch(manifest: Path) -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate([pick.examples for pick in plan(manifest, seed=seed, batch_size=8).epoch(epoch)]).tolist()

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(2, 0)
    assert order(1, 0) != order(1, 1)
    still = plan(manifest, batch_size=8, num_buckets=1, shuffle=False)
    assert np.concatenate([pick.examples for pick in still.epoch(5)]).tolist() == list(range(COUNT))


def test_batches_of_several_devices_are_those_of_one_with_larger_ones(manifest: Path) -> None:
    two, one = plan(manifest, devices=2, batch_size=6), plan(manifest, batch_size=12)
    for epoch in (0, 1):
        for shared, whole in zip(two.epoch(epoch)[:-1], one.epoch(epoch), strict=False):
            assert shared.examples.tolist() == whole.examples.tolist()


def test_devices_get_batches_alike_in_length(manifest: Path) -> None:
    made = plan(manifest, devices=4, batch_duration=40)
    spread = [
        max(padded(made, pick.take(slice(rank, None, 4))) for rank in range(4))
        / min(padded(made, pick.take(slice(rank, None, 4))) for rank in range(4))
        for pick in made.epoch(0)
    ]
    assert float(np.median(spread)) < 1.15


def test_a_weight_is_how_often_an_example_comes(manifest: Path) -> None:
    half = manifest.parent / "half.jsonl"
    half.write_text("\n".join(manifest.read_text().split("\n")[: COUNT // 2]))
    config = fill(
        DataConfig,
        {"input_cfg": [{"manifest_filepath": str(manifest), "weight": 2.5}, {"manifest_filepath": str(half), "weight": 0.5}]},
        "train_ds",
    )
    made = planning.make(open_catalog(config, Path()), config, seed=0, devices=1)
    times = np.zeros((20, COUNT + COUNT // 2), dtype=int)
    for epoch in range(20):
        for pick in made.epoch(epoch):
            np.add.at(times[epoch], pick.examples, 1)
            for example, copy in zip(pick.examples, pick.copies, strict=True):
                assert 0 <= copy < 3
                assert example < COUNT or copy == 0
    assert set(np.unique(times[:, :COUNT])) == {2, 3}
    assert set(np.unique(times[:, COUNT:])) == {0, 1}
    assert times[:, :COUNT].mean() == pytest.approx(2.5, abs=0.02)
    assert times[:, COUNT:].mean() == pytest.approx(0.5, abs=0.02)
    pairs = [(int(e), int(c)) for pick in made.epoch(0) for e, c in zip(pick.examples, pick.copies, strict=True)]
    assert len(set(pairs)) == len(pairs)


def test_speeds_are_drawn_alike_and_anew(manifest: Path) -> None:
    made = plan(manifest, batch_duration=60, perturb={"speed": [0.9, 1.0, 1.1]})
    drawn = np.zeros((30, COUNT))
    for epoch in range(30):
        for pick in made.epoch(epoch):
            drawn[epoch, pick.examples] = pick.speeds
    for speed in (0.9, 1.0, 1.1):
        assert (drawn == speed).mean() == pytest.approx(1 / 3, abs=0.01)
    assert (drawn.std(axis=0) > 0).all()


def test_tar_files_are_taken_some_at_a_time(manifest: Path) -> None:
    made = plan(manifest, batch_size=5, shuffle_shards=3, num_buckets=4)
    shard = np.arange(COUNT) % 12
    shard[::10] = -1  # and some that are in no tar file
    made = evolve(made, catalog=_with_shards(made.catalog, shard))
    batches = made.epoch(0)
    assert sorted(np.concatenate([pick.examples for pick in batches])) == list(range(COUNT))
    for one in range(12):
        where = [place for place, pick in enumerate(batches) if one in shard[pick.examples]]
        # A quarter of the epoch, and the next for what is left of the first.
        assert where[-1] - where[0] < len(batches) / 2 + 5
    open_at_once = [len(set(shard[pick.examples]) - {-1}) for pick in batches]
    assert max(open_at_once) <= 5 and float(np.mean(open_at_once)) <= 3
    order = [tuple(pick.examples) for pick in batches]
    assert order != [tuple(pick.examples) for pick in made.epoch(1)]


def _with_shards(catalog: Catalog, shard: np.ndarray) -> Catalog:
    return evolve(catalog, shard=shard)
