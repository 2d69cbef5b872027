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
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from lightning.pytorch import LightningModule
from torch import Tensor, nn

import sonant
from sonant.errors import CheckpointError, ConfigError
from sonant_training.errors import Diverged
from sonant_training.running import experiment, processes, resuming, saving
from sonant_training.running.averaging import Average
from sonant_training.running.config import EmaConfig, ExperimentConfig
from sonant_training.running.experiment import Places
from sonant_training.running.guards import FiniteSteps
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


def test_a_run_that_is_killed_again_and_again_comes_to_the_same_weights(tmp_path: Path) -> None:
    (whole, broken) = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    wanted = train(write_config(whole))
    config, chance, kills = write_config(broken), random.Random(0), 0
    folder = broken / "runs" / "small" / "version_0"
    while not (folder / "model").exists():
        with subprocess.Popen(command(config, "--resume"), stderr=subprocess.PIPE, env=environment()) as process:
            if kills < 3:  # while it trains, and after a while that nobody chose
                steps = steps_of(folder)
                while steps_of(folder) <= steps and process.poll() is None:
                    time.sleep(0.01)
                time.sleep(chance.uniform(0, 0.3))
                process.send_signal(signal.SIGKILL)
                kills += process.wait() == -signal.SIGKILL
            else:
                _, errors = process.communicate(timeout=120)
                assert process.returncode == 0, errors.decode()
    assert kills == 3
    assert_same(checkpoint(folder), checkpoint(wanted.folder))
    for one, other in zip(states(folder / "model"), states(wanted.model), strict=True):
        assert one.equal(other)


def steps_of(folder: Path) -> int:
    """Optimizer steps of the newest checkpoint, of a run that may be writing it; -1 before the first."""
    try:
        return int(checkpoint(folder)["global_step"])
    except FileNotFoundError:
        return -1


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
    from lightning.pytorch import Callback

    from sonant_training.running import callbacks

    class Stop(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            trainer.should_stop = trainer.global_step >= most

    original = callbacks.of
    return lambda *given: [*original(*given), Stop()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_told_to_end_writes_where_it_is(tmp_path: Path, number: signal.Signals) -> None:
    config = write_config(tmp_path, trainer={"max_steps": 100_000, "val_check_interval": 1000})
    folder = tmp_path / "runs" / "small" / "version_0"
    every = "exp_manager.checkpoints.every_n_steps=5"
    with subprocess.Popen(command(config, every), stderr=subprocess.PIPE, env=environment()) as process:
        while steps_of(folder) < 5 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, errors.decode()
    steps = steps_of(folder)
    assert f"stopped by {number.name} at step {steps}: wrote" in errors.decode()
    assert checkpoint(folder)["batches"] == 2 * steps


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


def test_a_run_whose_disk_is_full_ends_with_what_it_has(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    script = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 15, 1 << 15)); "
    script += "from sonant.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "train", str(config)], capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 1
    assert "Error: cannot write the checkpoint" in done.stderr and "Traceback" not in done.stderr
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


# Numbers that are none


class Line(LightningModule):
    """The least that trains: a layer with statistics of its own."""

    def __init__(self, spoilt: set[int]) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(3, 3), nn.BatchNorm1d(3)
        self.spoilt, self.taken = spoilt, 0
        self.seen: list[list[Tensor]] = []

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        self.seen.append([value.detach().clone() for value in self.state_dict().values() if value.is_floating_point()])
        self.taken += 1
        if self.taken in self.spoilt:
            batch = batch * float("nan")
        return self.norm(self.layer(batch)).square().sum() + self.layer.weight.square().sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=0.1)


def run_line(folder: Path, spoilt: set[int], most: int, steps: int = 6) -> Line:
    from lightning.pytorch import Trainer

    from sonant_training.running import quiet

    module = Line(spoilt)
    batches = torch.utils.data.DataLoader(torch.randn(4 * steps, 3), batch_size=4)
    quietly = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    keys = {"accelerator": "cpu"} | dict.fromkeys(quietly, False)
    with quiet.lightning():
        trainer = Trainer(max_epochs=1, default_root_dir=folder, callbacks=[FiniteSteps(most)], **keys)
        trainer.fit(module, batches)
    return module


def test_a_step_without_a_finite_gradient_changes_nothing(tmp_path: Path) -> None:
    torch.manual_seed(0)
    seen = run_line(tmp_path, {3, 4}, most=3).seen
    for before, after in ((2, 3), (3, 4)):
        assert all(one.equal(other) for one, other in zip(seen[before], seen[after], strict=True))
    for before, after in ((0, 1), (1, 2), (4, 5)):
        assert not all(one.equal(other) for one, other in zip(seen[before], seen[after], strict=True))


def test_too_many_of_them_in_a_row_end_the_run(tmp_path: Path) -> None:
    torch.manual_seed(0)
    run_line(tmp_path, {1, 2, 4, 5}, most=3)
    with pytest.raises(Diverged, match=r"of 3 steps in a row are not finite, up to step .*optim\.lr"):
        run_line(tmp_path, {2, 3, 4}, most=3)


# The average


def test_the_average_is_that_of_the_formula(tmp_path: Path) -> None:
    from lightning.pytorch import Trainer

    from sonant_training.running import quiet

    torch.manual_seed(0)
    module, average = Line(set()), Average(EmaConfig(decay=0.5))
    batches = torch.utils.data.DataLoader(torch.randn(24, 3), batch_size=4)
    quietly = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    keys = {"accelerator": "cpu"} | dict.fromkeys(quietly, False)
    with quiet.lightning():
        Trainer(**keys, max_epochs=1, default_root_dir=tmp_path, callbacks=[average]).fit(module, batches)
    states = [*module.seen, [value for value in module.state_dict().values() if value.is_floating_point()]]
    expected = [value.double() for value in states[0]]
    for update, state in enumerate(states[1:]):
        keep = min(0.5, (1 + update) / (10 + update))
        expected = [keep * old + (1 - keep) * new for old, new in zip(expected, state, strict=True)]
    for found, wanted in zip(average.average.values(), expected, strict=True):
        torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)


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
    }
    losses = {}
    for devices, size in ((1, 4), (2, 2)):
        folder = tmp_path / str(devices)
        folder.mkdir()
        config = write_config(
            folder, **still, train_ds={"batch_size": size, "perturb": {"speed": [0.9, 1.0], "volume_db": [-6, 6]}}
        )
        more = (f"trainer.devices={devices}", *(("trainer.strategy=ddp",) if devices > 1 else ()))
        done = subprocess.run(command(config, *more), capture_output=True, text=True, env=environment(), check=False, timeout=200)
        assert done.returncode == 0, done.stderr
        assert [path.name for path in (folder / "runs" / "small").iterdir()] == ["version_0"]
        rows = [json.loads(line) for line in (folder / "runs/small/version_0/metrics.jsonl").read_text("utf-8").splitlines()]
        losses[devices] = {key: [row[key] for row in rows if key in row] for key in ("grad_norm", "val_loss", "val_cer")}
    assert len(losses[1]["grad_norm"]) == STEPS and len(losses[1]["val_loss"]) == STEPS // 4
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
