"""What may happen to a run: it is killed, told to end, has no room to write, or its numbers are none. Nothing done is lost."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from lightning.pytorch import Callback
from torch import Tensor

import sonant
from sonant.errors import CheckpointError, ConfigError
from sonant_training.running import experiment, processes, resuming, saving
from sonant_training.running.config import ExperimentConfig
from sonant_training.running.experiment import Places
from sonant_training.running.training import train

RATE = 4000
TEXTS = ("one", "two", "three", "four", "five")
STEPS = 12


def write_config(folder: Path, **changes: Any) -> Path:
    """A config of a very small recognizer with everything in it that is random or has a state, and its data."""
    noise = np.random.default_rng(0)
    rows = []
    for number, text in enumerate(TEXTS):
        soundfile.write(folder / f"{number}.wav", 0.1 * noise.standard_normal(RATE // 2 + 300 * number), RATE)
        rows.append({"audio_filepath": f"{number}.wav", "text": text, "duration": 0.5 + 0.075 * number})
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    data = {"manifest_filepath": "train.jsonl", "batch_size": 2, "num_workers": 0, "num_buckets": 1}
    encoder = {"d_model": 8, "n_heads": 2, "n_layers": 1, "subsampling_factor": 2, "subsampling_conv_channels": 4}
    config = {
        "task": "asr",
        "preprocessor": {"name": "log_mel", "features": 16, "sample_rate": RATE, "n_fft": 256, "dither": 1.0e-5},
        "augmentation": {"name": "spec_augment", "freq_masks": 1, "freq_width": 4, "time_masks": 1, "time_width": 0.1},
        "tokenizer": {"name": "char", "labels": sorted({*"".join(TEXTS)})},
        "encoder": {"name": "fastconformer", **encoder, "dropout": 0.1},
        "decoder": "ctc",
        "loss": "ctc",
        "train_ds": data | {"perturb": {"speed": [0.9, 1.0], "volume_db": [-6, 6]}},
        "validation_ds": data,
        "optim": {"name": "adamw", "lr": 1.0e-2, "sched": {"name": "cosine", "warmup_steps": 3}},
        "trainer": {"max_steps": STEPS, "accelerator": "cpu", "val_check_interval": 4, "accumulate_grad_batches": 2},
        "exp_manager": {
            "exp_dir": str(folder / "runs"),
            "ema": {"decay": 0.9},
            "checkpoints": {"every_n_steps": 1},
            "tensorboard": False,
            "samples": 0,
        },
    }
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(merged(config, changes)), "utf-8")
    return path


def merged(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return config | {
        key: merged(config.get(key) or {}, value) if isinstance(value, dict) else value for key, value in changes.items()
    }


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path)


def command(config: Path, *overrides: str) -> list[str]:
    return [sys.executable, str(Path(sys.executable).parent / "sonant"), "train", str(config), *overrides]


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"} | more


class Runs:
    """Runs of `sonant train`, one at a time; see `train_on_request.py`."""

    def __init__(self, folder: Path) -> None:
        self.errors = folder / "errors"
        arguments = [sys.executable, str(Path(__file__).with_name("train_on_request.py"))]
        self.server = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(), start_new_session=True
        )

    def begin(self, config: Path, *overrides: str, most_bytes: int | None = None) -> int:
        """Begin one; returns its process and process group."""
        request = {"arguments": ["train", str(config), *overrides], "errors": str(self.errors), "most_bytes": most_bytes}
        assert self.server.stdin is not None
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        return self._answer()

    def end(self) -> tuple[int, str]:
        """Its exit code, negative for a signal, and what it said."""
        return self._answer(), self.errors.read_text("utf-8")

    def _answer(self) -> int:
        assert self.server.stdout is not None
        return int(self.server.stdout.readline())


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    found = Runs(tmp_path_factory.mktemp("runs"))
    with found.server:
        yield found


def wait_for_another(path: Path, before: int) -> None:
    """Wait until `path` is written since `before`, a time of `written`."""
    deadline = time.monotonic() + 120
    while written(path) <= before:
        assert time.monotonic() < deadline, f"{path} is not written"
        time.sleep(0.02)


def written(path: Path) -> int:
    """When, in nanoseconds; -1: never."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return -1


def checkpoint(folder: Path) -> dict[str, Any]:
    return dict(torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True))


def assert_same(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Weights, their average, and the state of the optimizer, bit for bit."""
    assert first["state_dict"].keys() == second["state_dict"].keys() and first["average"].keys() == second["average"].keys()
    for name in ("state_dict", "average"):
        for key, value in first[name].items():
            assert value.equal(second[name][key]), f"{name} {key}"
    states = [run["optimizer_states"][0]["state"] for run in (first, second)]
    for number, state in states[0].items():
        for key, value in state.items():
            assert torch.as_tensor(value).equal(torch.as_tensor(states[1][number][key])), f"optimizer {number} {key}"
    assert first["batches"] == second["batches"] and first["global_step"] == second["global_step"]
    assert first["lr_schedulers"] == second["lr_schedulers"]


# Killed


def test_a_run_that_is_killed_again_and_again_comes_to_the_same_weights(tmp_path: Path, runs: Runs) -> None:
    (whole, broken) = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    wanted = train(write_config(whole))
    config, chance = write_config(broken), random.Random(0)
    folder = broken / "runs" / "small" / "version_0"
    newest = Places(folder).newest
    for _ in range(3):  # while it trains, and after a while that nobody chose
        before = written(newest)
        process = runs.begin(config, "--resume")
        wait_for_another(newest, before)
        time.sleep(chance.uniform(0, 0.1))
        os.kill(process, signal.SIGKILL)
        assert runs.end()[0] == -signal.SIGKILL
    runs.begin(config, "--resume")
    code, errors = runs.end()
    assert code == 0, errors
    assert_same(checkpoint(folder), checkpoint(wanted.folder))
    for one, other in zip(states(folder / "model"), states(wanted.model), strict=True):
        assert one.equal(other)


def states(model: Path) -> list[Tensor]:
    return list(sonant.load(model, device="cpu", dtype="float32").state_dict().values())


def test_a_run_in_two_parts_is_the_run_in_one(tmp_path: Path) -> None:
    (whole, parts) = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    wanted = train(write_config(whole))
    config = write_config(parts)
    for most in (1, 5, STEPS):  # max_steps is the length of the schedule, so the run is ended from without
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sonant_training.running.training.callbacks.of", stopping_after(most))
            found = train(config, exp_manager={"resume_if_exists": True})
    assert found.folder.name == "version_0"
    assert_same(checkpoint(found.folder), checkpoint(wanted.folder))


def stopping_after(most: int) -> Any:
    from sonant_training.running import callbacks

    class Stop(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            trainer.should_stop = trainer.global_step >= most

    original = callbacks.of
    return lambda *given: [*original(*given), Stop()]


class Kill(Callback):
    """Ends a run without notice: at the beginning of a batch behind a step, or in the validation at one."""

    def __init__(self, step: int, where: str) -> None:
        self.step, self.where = step, where

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        self._end("training", trainer)

    def on_validation_batch_end(self, trainer: Any, *_: Any) -> None:
        if not trainer.sanity_checking:
            self._end("validation", trainer)

    def _end(self, where: str, trainer: Any) -> None:
        if (self.where, self.step) == (where, trainer.global_step):
            raise KeyError(where)


@pytest.mark.parametrize("every", [1, 5])
def test_numbers_are_those_of_the_run_in_one(tmp_path: Path, every: int) -> None:
    """None twice and none missing, also of a validation in which the run was killed, and of the test of a run that was over."""
    found = []
    for name, kills in (("whole", []), ("broken", [Kill(4, "validation"), Kill(7, "training"), Kill(STEPS, "validation"), None])):
        folder = tmp_path / name
        folder.mkdir()
        test = {"manifest_filepath": "train.jsonl", "batch_size": 5, "num_workers": 0}
        config = write_config(folder, trainer={"log_every_n_steps": 1}, test_ds=test)
        kept = {"resume_if_exists": True, "checkpoints": {"every_n_steps": every}, "early_stopping": {"patience": 50}}
        for kill in kills:
            with pytest.MonkeyPatch.context() as patch:
                if kill is not None:
                    patch.setattr("sonant_training.running.training.callbacks.of", behind(kill))
                    with pytest.raises(KeyError):
                        train(config, exp_manager=kept)
        run = train(config, exp_manager=kept)
        left_out = ("time", "audio_seconds_per_second")
        rows = [{key: value for key, value in row.items() if key not in left_out} for row in rows_of(run.folder)]
        states = {key: value for key, value in checkpoint(run.folder)["callbacks"].items() if key.startswith("EarlyStopping")}
        found.append((rows, states))
    assert found[0] == found[1]
    assert [row["step"] for row in found[0][0] if "val_loss" in row] == [2, 4, 6, 8, 10, 12]


def behind(callback: Callback) -> Any:
    from sonant_training.running import callbacks

    original = callbacks.of
    return lambda *given: [callback, *original(*given)]


def test_a_run_whose_time_is_over_ends_between_two_steps(tmp_path: Path) -> None:
    config = write_config(tmp_path, trainer={"accumulate_grad_batches": 3, "val_check_interval": 3})
    run = train(config, exp_manager={"max_time_per_run": "00:00:00:00"})
    assert (run.steps, checkpoint(run.folder)["batches"]) == (1, 3)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_told_to_end_writes_where_it_is(tmp_path: Path, runs: Runs, number: signal.Signals) -> None:
    """With those that read ahead for it, for all of which a terminal's Ctrl-C is."""
    still = {"max_steps": 100_000, "val_check_interval": 2000, "log_every_n_steps": 1}
    config = write_config(tmp_path, trainer=still, train_ds={"num_workers": 2})
    folder = tmp_path / "runs" / "small" / "version_0"
    process = runs.begin(config, "exp_manager.checkpoints.every_n_steps=5")
    wait_for_another(Places(folder).newest, -1)
    os.killpg(process, number)
    code, errors = runs.end()
    assert code == 128 + number, errors
    steps = checkpoint(folder)["global_step"]
    assert f"stopped by {number.name} at step {steps}: wrote" in errors
    assert steps >= 5 and checkpoint(folder)["batches"] == 2 * steps
    assert [row["step"] for row in rows_of(folder) if "train_loss" in row] == list(range(1, steps + 1))


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]


# What is written is whole


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    files, path = saving.WholeFiles(), tmp_path / "last.ckpt"
    files.save_checkpoint({"a": torch.ones(4)}, path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))  # as a disk that is full after 64 KB
    try:
        with pytest.raises(CheckpointError, match=r"cannot write the checkpoint .*last.ckpt: File too large.*--resume"):
            files.save_checkpoint({"a": torch.ones(1 << 16)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert files.load_checkpoint(path)["a"].equal(torch.ones(4))
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_run_whose_disk_is_full_ends_with_what_it_has(tmp_path: Path, runs: Runs) -> None:
    config = write_config(tmp_path)
    runs.begin(config, most_bytes=1 << 15)
    code, errors = runs.end()
    assert code == 1
    assert "Error: cannot write the checkpoint" in errors and "Traceback" not in errors
    again = train(config, exp_manager={"resume_if_exists": True})  # with room
    assert again.steps == STEPS


def test_a_checkpoint_with_anything_but_tensors_and_values_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {}, "evil": os.system}, path)
    with pytest.raises(CheckpointError, match="cannot read the checkpoint"):
        saving.WholeFiles().load_checkpoint(path, weights_only=False)


def test_a_run_goes_on_from_the_newest_that_is_whole(tmp_path: Path) -> None:
    places = Places(tmp_path)
    files = saving.WholeFiles()
    for age, name in enumerate(("step=1.ckpt", "step=2.ckpt", "last.ckpt")):
        files.save_checkpoint({"step": age}, places.checkpoints / name)
        os.utime(places.checkpoints / name, (age, age))
    going_on = ExperimentConfig(resume_if_exists=True)
    assert resuming.checkpoint(going_on, places) == places.newest
    places.newest.write_bytes(places.newest.read_bytes()[:-30])  # cut off, as an older program or a bad disk leaves it
    os.utime(places.newest, (9, 9))
    assert resuming.checkpoint(going_on, places) == places.checkpoints / "step=2.ckpt"
    assert resuming.checkpoint(ExperimentConfig(), places) is None


def test_half_written_files_are_cleared(config: Path) -> None:
    left = Places(config.parent / "runs" / "small" / "version_0").checkpoints / "last.ckpt.part"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    train(config, trainer={"max_steps": 1}, exp_manager={"version": "version_0", "resume_if_exists": True})
    assert not left.exists()


# The average


def test_the_model_has_the_averaged_weights(config: Path) -> None:
    run = train(config, exp_manager={"final": "last"})
    stored = checkpoint(run.folder)
    model = sonant.load(run.model, device="cpu", dtype="float32")
    name = "encoder.layers.0.feed_forward1.linear1.weight"
    own = dict(model.named_parameters())
    name = next(key for key in own if key.endswith("linear1.weight"))
    assert own[name].equal(stored["average"][f"model.{name}"])
    assert not own[name].equal(stored["state_dict"][f"model.{name}"])


# Several processes


def test_two_processes_learn_as_one_with_twice_the_batch(tmp_path: Path) -> None:
    """Without what is drawn at random, and with norms that look at one recording only."""
    still = {
        "preprocessor": {"dither": 0.0},
        "augmentation": {"freq_masks": 0, "time_masks": 0},
        "encoder": {"dropout": 0.0, "dropout_pre_encoder": 0.0, "conv_norm_type": "layer_norm"},
        "trainer": {"accumulate_grad_batches": 1, "log_every_n_steps": 1},
        "exp_manager": {"ema": None},
        # A batch more for one of two processes, and a single one, of which the other has none.
        "validation_ds": {"batch_size": 2},
        "test_ds": {"manifest_filepath": "train.jsonl", "batch_size": 5, "num_workers": 0},
    }
    losses = {}
    for devices, size in ((1, 4), (2, 2)):
        folder = tmp_path / str(devices)
        folder.mkdir()
        config = write_config(
            folder, **still, train_ds={"batch_size": size, "perturb": {"speed": [0.9, 1.0], "volume_db": [-6, 6]}}
        )
        if devices == 1:
            train(config)
        else:
            more = (f"trainer.devices={devices}", "trainer.strategy=ddp")
            done = subprocess.run(
                command(config, *more), capture_output=True, text=True, env=environment(), check=False, timeout=200
            )
            assert done.returncode == 0, done.stderr
        assert [path.name for path in (folder / "runs" / "small").iterdir()] == ["version_0"]
        rows, keys = (
            rows_of(folder / "runs" / "small" / "version_0"),
            ("grad_norm", "val_loss", "val_cer", "test_loss", "test_cer"),
        )
        losses[devices] = {key: [row[key] for row in rows if key in row] for key in keys}
    assert len(losses[1]["grad_norm"]) == STEPS and len(losses[1]["val_loss"]) == STEPS // 4 and len(losses[1]["test_cer"]) == 1
    for key, wanted in losses[1].items():
        assert losses[2][key] == pytest.approx(wanted, rel=1e-4), key


@pytest.mark.parametrize(
    ("variables", "rank", "together"),
    [
        ({}, 0, False),
        ({"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, 1, False),  # Lightning's own
        ({"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4"}, 3, True),  # torchrun
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, 0, True),
        ({"RANK": "0", "WORLD_SIZE": "1"}, 0, False),
    ],
)
def test_which_process_this_is(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], rank: int, together: bool) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (processes.rank(), processes.started_together()) == (rank, together)


def test_processes_that_start_together_are_told_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"exp_manager.version is missing"):
        experiment.choose(ExperimentConfig(exp_dir=str(tmp_path)), "small")
    (tmp_path / "small" / "one").mkdir(parents=True)
    (tmp_path / "small" / "one" / "config.yaml").touch()
    chosen = experiment.choose(ExperimentConfig(exp_dir=str(tmp_path), version="one"), "small")
    assert chosen.folder == tmp_path / "small" / "one"
