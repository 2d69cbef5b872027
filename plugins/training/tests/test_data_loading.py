"""Loaders: the same batches whoever reads them and wherever a run goes on; what bad examples, caches and perturbations do."""

from __future__ import annotations

import json
import logging
import os
import pickle
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

from sonant import audio
from sonant.config import fill
from sonant_training.data.config import DataConfig
from sonant_training.data.loaded import Loaded
from sonant_training.data.loading import training_batches, validation_batches
from sonant_training.errors import DataError

RATE = 8000
SECONDS = [0.3, 0.5, 0.4, 0.9, 1.0, 0.35, 0.6, 0.8, 0.7, 0.45, 0.55]

Corpus = Callable[..., Path]


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """A folder of noises, the second shorter than any example, and a folder of impulse responses."""
    random = np.random.default_rng(5)
    for name, length in (("noise/long.wav", 5 * RATE), ("noise/short.wav", 800), ("rir/room.wav", 1000)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        decay = np.exp(-np.arange(length) / 200) if name.startswith("rir") else np.ones(length)
        soundfile.write(tmp_path / name, 0.3 * decay * random.standard_normal(length), RATE)
    return tmp_path


ALL = {
    "speed": [0.9, 1.0, 1.1],
    "shift": {"prob": 0.5},
    "rir": {"manifest_filepath": "rir", "prob": 0.5},
    "noise": {"manifest_filepath": "noise", "prob": 0.7},
    "white_noise": {"prob": 0.5},
    "volume_db": [-6, 6],
}


def train(
    manifest: Path, task: Any, *, seed: int = 1, skip: int = 0, rank: int = 0, world: int = 1, **values: Any
) -> DataLoader[Loaded]:
    limit = {} if "batch_size" in values else {"batch_duration": 2.0}
    given = {"manifest_filepath": manifest.name, "num_workers": 0} | limit | values
    config = fill(DataConfig, given, "train_ds")
    where = {"rank": rank, "world_size": world, "folder": manifest.parent}
    return training_batches(config, task=task, sample_rate=RATE, seed=seed, skip=skip, **where)


def validate(manifest: Path, task: Any, **values: Any) -> list[Loaded]:
    config = fill(DataConfig, {"manifest_filepath": manifest.name, "num_workers": 0, **values}, "validation_ds")
    return list(validation_batches(config, task=task, sample_rate=RATE, folder=manifest.parent))


def first(loader: DataLoader[Loaded], count: int) -> list[Loaded]:
    return list(islice(iter(loader), count))


def assert_equal(one: list[Loaded], other: list[Loaded]) -> None:
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        assert a.batch.names == b.batch.names and a.batch.texts == b.batch.texts
        assert (a.seconds, a.padded_seconds, a.examples, a.epoch) == (b.seconds, b.padded_seconds, b.examples, b.epoch)
        assert all(torch.equal(x, y) for x, y in zip(a.batch.wavs, b.batch.wavs, strict=True))


def test_a_batch_holds_the_recordings_and_says_how_long_they_are(corpus: Corpus, echo: Any) -> None:
    manifest = corpus(SECONDS)
    for loaded in first(train(manifest, echo), 20):
        lengths = [len(wav) / RATE for wav in loaded.batch.wavs]
        assert loaded.examples == len(lengths)
        assert loaded.seconds == pytest.approx(sum(lengths))
        assert loaded.padded_seconds == pytest.approx(max(lengths) * len(lengths))
        assert loaded.padded_seconds <= 2.0 + 1e-9
        for name, text, wav in zip(loaded.batch.names, loaded.batch.texts, loaded.batch.wavs, strict=True):
            assert torch.equal(wav, torch.from_numpy(audio.read(manifest.parent / name, RATE)))
            assert name == f"train_{text.split()[1]}.wav"
        assert loaded.to("meta").batch.wavs[0].device.type == "meta"


@pytest.mark.parametrize("cache", [False, True])
def test_batches_are_the_same_from_any_number_of_processes(corpus: Corpus, echo: Any, sounds: Path, cache: bool) -> None:
    manifest = corpus(SECONDS)
    alone = first(train(manifest, echo, perturb=ALL, cache=cache), 12)
    assert alone[-1].epoch >= 2
    for workers in {1, min(2, os.cpu_count() or 1)}:  # torch warns of more than there are cores
        loader = train(manifest, echo, perturb=ALL, cache=cache, num_workers=workers, prefetch_factor=2)
        assert_equal(first(loader, 12), alone)


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("skip", [1, 4, 9])
def test_a_run_that_goes_on_gets_what_it_would_have_got(corpus: Corpus, echo: Any, sounds: Path, skip: int, cache: bool) -> None:
    manifest = corpus(SECONDS)
    whole = first(train(manifest, echo, perturb=ALL, cache=cache), 15)
    assert_equal(first(train(manifest, echo, perturb=ALL, cache=cache, skip=skip), 15 - skip), whole[skip:])


@pytest.mark.parametrize("cache", [False, True])
def test_a_process_that_is_not_forked_reads_the_same(corpus: Corpus, echo: Any, sounds: Path, cache: bool) -> None:
    loader = train(corpus(SECONDS), echo, perturb=ALL, cache=cache)
    elsewhere: Any = pickle.loads(pickle.dumps(loader.dataset))
    picks = list(islice(iter(loader.sampler), 8))
    assert_equal([elsewhere[pick] for pick in picks], first(loader, 8))


def test_skipping_reads_no_audio(corpus: Corpus, echo: Any) -> None:
    manifest = corpus([0.5] * 6)
    loader = train(manifest, echo, batch_size=2, skip=2, num_buckets=1)
    picks = [name for loaded in first(train(manifest, echo, batch_size=2, num_buckets=1), 2) for name in loaded.batch.names]
    for name in picks:
        (manifest.parent / name).unlink()
    assert first(loader, 1)[0].examples == 2


def test_seed_and_epoch_change_what_is_heard(corpus: Corpus, echo: Any, sounds: Path) -> None:
    manifest = corpus([0.5])
    heard = [loaded.batch.wavs[0] for loaded in first(train(manifest, echo, perturb={"volume_db": [-6, 6]}), 3)]
    heard += [first(train(manifest, echo, seed=2, perturb={"volume_db": [-6, 6]}), 1)[0].batch.wavs[0]]
    gains = [float(wav.abs().max()) for wav in heard]
    assert len(set(gains)) == 4
    clean = float(np.abs(audio.read(manifest.parent / "train_0.wav", RATE)).max())
    assert all(10 ** (-6 / 20) - 1e-6 <= gain / clean <= 10 ** (6 / 20) + 1e-6 for gain in gains)


@pytest.mark.parametrize("name", ["shift", "rir", "noise", "white_noise"])
def test_a_perturbation_comes_as_often_as_asked(corpus: Corpus, echo: Any, sounds: Path, name: str) -> None:
    manifest = corpus([0.3] * 40)
    perturb = {name: dict(ALL[name], prob=0.25) if isinstance(ALL[name], dict) else {}}
    changed = total = 0
    for loaded in first(train(manifest, echo, batch_size=40, perturb=perturb), 10):
        for wav, file in zip(loaded.batch.wavs, loaded.batch.names, strict=True):
            total += 1
            changed += not torch.equal(wav, torch.from_numpy(audio.read(manifest.parent / file, RATE)))
    assert changed / total == pytest.approx(0.25, abs=0.07)
    never = {name: dict(perturb[name], prob=0.0)}
    for loaded in first(train(manifest, echo, batch_size=40, perturb=never), 1):
        for wav, file in zip(loaded.batch.wavs, loaded.batch.names, strict=True):
            assert torch.equal(wav, torch.from_numpy(audio.read(manifest.parent / file, RATE)))


def test_noise_is_mixed_at_the_ratio_asked(corpus: Corpus, echo: Any, sounds: Path) -> None:
    manifest = corpus([0.5] * 12)
    noise = {"manifest_filepath": "noise", "prob": 1.0, "snr_db": [7.0, 7.0]}
    for cache in (False, True):
        loaded = first(train(manifest, echo, batch_size=12, perturb={"noise": noise}, cache=cache), 1)[0]
        for wav, file in zip(loaded.batch.wavs, loaded.batch.names, strict=True):
            clean = torch.from_numpy(audio.read(manifest.parent / file, RATE))
            assert 10 * torch.log10((clean**2).mean() / ((wav - clean) ** 2).mean()) == pytest.approx(7.0, abs=0.05)


def test_a_cache_decodes_once_for_all_processes(corpus: Corpus, echo: Any) -> None:
    manifest = corpus([0.5] * 6)
    loader = iter(train(manifest, echo, batch_size=6, cache=True, num_workers=2, prefetch_factor=1, perturb={"speed": [1.0]}))
    seen = [next(loader) for _ in range(3)]
    for path in manifest.parent.glob("*.wav"):
        path.unlink()
    seen += [next(loader) for _ in range(6)]
    assert all(loaded.examples == 6 and not loaded.faults for loaded in seen)
    for wavs in zip(*([wav for _, wav in sorted(zip(x.batch.names, x.batch.wavs, strict=True))] for x in seen), strict=True):
        assert all(torch.equal(wav, wavs[0]) for wav in wavs)


def test_a_cache_rounds_to_16_bits(corpus: Corpus, echo: Any, tmp_path: Path) -> None:
    samples = np.array([0.1, -0.2, 1.5, -1.5, 0.0] * 400, dtype=np.float32)
    soundfile.write(tmp_path / "loud.wav", samples, RATE, subtype="FLOAT")
    manifest = tmp_path / "m.jsonl"
    manifest.write_text(json.dumps({"audio_filepath": "loud.wav", "text": "x", "duration": 0.25}))
    one, two = (loaded.batch.wavs[0].numpy() for loaded in first(train(manifest, echo, cache=True), 2))
    assert (one == two).all()
    assert np.abs(one - np.clip(samples, -1, 1)).max() <= 1 / 32768


def test_a_cache_larger_than_the_memory_is_refused(tmp_path: Path, echo: Any) -> None:
    manifest = tmp_path / "m.jsonl"
    row = {"audio_filepath": "x.wav", "text": "x", "duration": 3.6e6}
    manifest.write_text("\n".join([json.dumps(row)] * 10_000))
    with pytest.raises(DataError, match="cache: the decoded audio takes .* GB, and this machine has"):
        train(manifest, echo, cache=True)


# Several processes that train together


def test_ranks_share_each_batch(corpus: Corpus, echo: Any, sounds: Path) -> None:
    manifest = corpus(SECONDS)
    one = first(train(manifest, echo, batch_size=6, perturb=ALL), 4)
    two = [first(train(manifest, echo, batch_size=3, perturb=ALL, rank=r, world=2), 4) for r in (0, 1)]
    for whole, *shares in zip(one, *two, strict=True):
        names = [name for pair in zip(*(share.batch.names for share in shares), strict=True) for name in pair]
        if len(whole.batch.names) % 2 == 0:
            assert tuple(names) == whole.batch.names
        wavs = [wav for pair in zip(*(share.batch.wavs for share in shares), strict=True) for wav in pair]
        assert all(torch.equal(a, b) for a, b in zip(wavs, whole.batch.wavs, strict=False))
        assert shares[0].examples == shares[1].examples


@pytest.mark.parametrize("world", [1, 2, 3])
def test_validation_sees_each_example_once_the_longest_first(corpus: Corpus, echo: Any, world: int) -> None:
    manifest = corpus(SECONDS)
    config = fill(DataConfig, {"manifest_filepath": manifest.name, "batch_duration": 2.0, "num_workers": 0}, "d")
    seen: list[str] = []
    sizes = []
    for rank in range(world):
        loader = validation_batches(config, task=echo, sample_rate=RATE, rank=rank, world_size=world, folder=manifest.parent)
        for _ in range(2):  # once through, as often as it is wanted
            everything = list(loader)
        sizes.append(len(everything))
        found = [loaded for loaded in everything if loaded.examples]
        assert all(loaded.batch is None and loaded.seconds == 0 for loaded in everything[len(found) :])
        longest = [max(map(len, loaded.batch.wavs)) for loaded in found]
        assert longest == sorted(longest, reverse=True)
        seen += [name for loaded in found for name in loaded.batch.names]
    assert sorted(seen) == sorted(f"train_{n}.wav" for n in range(len(SECONDS)))
    assert len(set(sizes)) == 1, "processes wait for each other at every batch"


def test_a_validation_set_of_one_batch_is_one_for_every_process(corpus: Corpus, echo: Any) -> None:
    manifest = corpus([0.5, 0.5])
    config = fill(DataConfig, {"manifest_filepath": manifest.name, "batch_size": 2, "num_workers": 0}, "d")
    shared: dict[str, Any] = {"task": echo, "sample_rate": RATE, "world_size": 3, "folder": manifest.parent}
    loaders = [list(validation_batches(config, rank=rank, **shared)) for rank in range(3)]
    assert [[loaded.examples for loaded in loader] for loader in loaders] == [[2], [0], [0]]
    assert loaders[1][0].to("cpu").batch is None


def test_validation_is_not_perturbed(corpus: Corpus, echo: Any, sounds: Path) -> None:
    manifest = corpus(SECONDS)
    for loaded in validate(manifest, echo, perturb=ALL):
        for wav, file in zip(loaded.batch.wavs, loaded.batch.names, strict=True):
            assert torch.equal(wav, torch.from_numpy(audio.read(manifest.parent / file, RATE)))


# Bad examples


def damage(manifest: Path) -> None:
    """Of eight examples four are bad: missing, no audio, another text than the task can learn, much longer than said."""
    folder = manifest.parent
    (folder / "train_1.wav").unlink()
    (folder / "train_2.wav").write_bytes(b"not audio at all")
    rows = [json.loads(line) for line in manifest.read_text().split("\n") if line]
    rows[3]["text"] = "?"
    rows[4]["duration"] = 0.2
    manifest.write_text("\n".join(map(json.dumps, rows)))


def test_bad_examples_are_left_out_and_named(corpus: Corpus, echo: Any) -> None:
    manifest = corpus([1.0] * 8)
    damage(manifest)
    found = validate(manifest, echo, batch_size=8, num_buckets=1, min_duration=0)
    assert sum(loaded.examples for loaded in found) == 4
    faults = {fault.where.rsplit(":")[-1]: fault for loaded in found for fault in loaded.faults}
    assert {number: fault.reason.split(",")[0][:30] for number, fault in faults.items()} == {
        "2": "there is no such file",
        "3": "not readable as audio (Format n"[:30],
        "4": "'?' is not in the vocabulary",
        "5": "it is longer than the 0.2 s that the manifest says"[:30],
    }
    assert faults["2"].name.endswith("train_1.wav")
    assert str(faults["2"]).startswith(f"{manifest}:2: ")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_example_can_end_the_run(corpus: Corpus, echo: Any, workers: int) -> None:
    manifest = corpus([1.0] * 8)
    damage(manifest)
    with pytest.raises(DataError, match=r"train\.jsonl:\d: .*on_bad: skip"):
        first(train(manifest, echo, on_bad="raise", num_workers=workers), 8)


def test_a_batch_is_never_empty(corpus: Corpus, echo: Any) -> None:
    manifest = corpus([1.0] * 8)
    damage(manifest)
    found = first(train(manifest, echo, batch_size=1), 16)
    assert all(loaded.examples == 1 for loaded in found)
    names = {name for loaded in found for name in loaded.batch.names}
    assert names == {f"train_{n}.wav" for n in (0, 5, 6, 7)}
    assert len({fault.where for loaded in found for fault in loaded.faults}) == 4
    assert_equal(first(train(manifest, echo, batch_size=1, skip=5), 11), found[5:])


def test_in_a_validation_nothing_stands_in_for_a_bad_example(corpus: Corpus, echo: Any) -> None:
    """It would count twice."""
    manifest = corpus([1.0] * 8)
    damage(manifest)
    found = validate(manifest, echo, batch_size=1, min_duration=0)
    assert sorted(loaded.batch.names[0] for loaded in found if loaded.examples) == [f"train_{n}.wav" for n in (0, 5, 6, 7)]
    assert sum(len(loaded.faults) for loaded in found if not loaded.examples) == 4


def test_nothing_but_bad_examples_is_an_error(corpus: Corpus, echo: Any) -> None:
    manifest = corpus([0.5] * 5)
    for path in manifest.parent.glob("*.wav"):
        path.unlink()
    with pytest.raises(DataError, match="examples in a row cannot be used; the last: .*there is no such file"):
        first(train(manifest, echo), 1)


def test_what_is_used_and_what_is_not_is_logged(corpus: Corpus, echo: Any, caplog: pytest.LogCaptureFixture) -> None:
    manifest = corpus([0.5, 0.5, 3.0])
    with manifest.open("a") as file:
        file.write("{broken\n")
    with caplog.at_level(logging.INFO):
        loader: Any = train(manifest, echo, max_duration=1.0)
    assert [fault.where for fault in loader.faults] == [f"{manifest}:4"]
    messages = [record.getMessage() for record in caplog.records]
    assert "training: 2 examples, 1.0 s" in messages
    assert "training: 1 examples are left out: longer than max_duration" in messages
    assert any(message.startswith(f"left out: {manifest}:4: ") for message in messages)


def test_noises_that_are_not_there_are_an_error(corpus: Corpus, echo: Any, tmp_path: Path) -> None:
    manifest = corpus([0.5])
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match=r"perturb.noise: .*no audio files in this folder"):
        train(manifest, echo, perturb={"noise": {"manifest_filepath": "nothing"}})
