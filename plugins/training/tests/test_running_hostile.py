"""Whatever a run is given, and whatever is done to it, it says so in one error, and earlier work stays as it was."""

from __future__ import annotations

import json
import os
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

from sonant.errors import CheckpointError, ConfigError
from sonant_training.errors import DataError
from sonant_training.running.claiming import claimed
from sonant_training.running.reading import read
from sonant_training.running.training import rehearse, train

RATE = 4000


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A config of a very small recognizer, and its data."""
    noise = np.random.default_rng(0)
    rows = []
    for number, text in enumerate(("one", "two", "three")):
        soundfile.write(tmp_path / f"{number}.wav", 0.1 * noise.standard_normal(RATE // 2), RATE)
        rows.append({"audio_filepath": f"{number}.wav", "text": text, "duration": 0.5})
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    data = {"manifest_filepath": "train.jsonl", "batch_size": 2, "num_workers": 0}
    encoder = {"d_model": 8, "n_heads": 2, "n_layers": 1, "subsampling_factor": 2, "subsampling_conv_channels": 4}
    config = {
        "task": "asr",
        "preprocessor": {"name": "log_mel", "features": 16, "sample_rate": RATE, "n_fft": 256},
        "tokenizer": {"name": "char", "labels": sorted({*"onetwothree"})},
        "encoder": {"name": "fastconformer", **encoder},
        "decoder": "ctc",
        "loss": "ctc",
        "train_ds": data,
        "validation_ds": data,
        "optim": {"name": "adamw", "lr": 1.0e-3},
        "trainer": {"max_steps": 4, "accelerator": "cpu", "val_check_interval": 4, "log_every_n_steps": 1},
        "exp_manager": {"exp_dir": str(tmp_path / "runs"), "tensorboard": False, "samples": 0},
    }
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(config), "utf-8")
    return path


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("trainer.gradient_clip_val=.nan", "trainer.gradient_clip_val: expected a number, from 0 on, not nan"),
        ("trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches: expected a whole number, from 1 on, not 0"),
        ("trainer.log_every_n_steps=often", "trainer.log_every_n_steps: expected a whole number, from 0 on, not 'often'"),
        ("trainer.val_check_interval=0", "trainer.val_check_interval: expected a number of batches, not 0"),
        ("trainer.benchmark=maybe", "trainer.benchmark: expected true or false, not 'maybe'"),
        ("trainer.profiler=4", "trainer.profiler: expected a name"),
        ("trainer.limit_val_batches=x", "trainer: Lightning's Trainer takes no value of such a type"),
        ("exp_manager.checkpoints.save_top_k=-9", "'save_top_k' must be >= -1"),
        (
            "exp_manager.checkpoints.monitor=val_mer",
            "there is no number 'val_mer'. A validation gives val_cer, val_loss",
        ),
        ("loss=rnnt", "loss: it does not go with this model, whose head mostly wants the loss of its own name: a transducer's"),
    ],
)
def test_values_that_cannot_be_meant(config: Path, override: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rehearse(read(config, [override]))
    assert told in str(caught.value)


def test_a_pattern_of_more_files_than_anyone_has(config: Path) -> None:
    with pytest.raises(DataError, match="100,000,000,000 names"):
        rehearse(read(config, over={"train_ds": {"manifest_filepath": "{0..99999999999}.jsonl"}}))


def test_of_several_validation_sets_the_one_that_is_none_is_named(config: Path) -> None:
    sections = yaml.safe_load(config.read_text("utf-8"))
    sets = {"a": sections.pop("validation_ds"), "b": 3}
    with pytest.raises(ConfigError, match="validation_ds.b: expected a mapping here, not 3"):
        read(sections | {"validation_ds": sets})


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"audio_filepath": "0.wav", "text": "one", "duration": ' + "9" * 400 + "}", "is not a number of seconds"),
        ('{"audio_filepath": "0.wav", "text": "one", "duration": 0.5, "channel": "left"}', "is not the number of a channel"),
        ('{"audio_filepath": "0.wav", "text": "one", "offset": 7}', "is behind the end of the recording, which has 0.500 s"),
        ('{"audio_filepath": "0.wav", "text": "one", "offset": "x"}', "offset 'x' is not a number of seconds"),
        ("[" * 100_000, "brackets within brackets"),
        ('{"audio_filepath": "0.wav", "duration": 0.5, "text": "' + "one" * 500_000 + '"}', "a row has at most 1,048,576"),
    ],
)
def test_a_row_that_nobody_meant(config: Path, line: str, told: str) -> None:
    (config.parent / "train.jsonl").write_text(line + "\n", "utf-8")
    with pytest.raises(DataError, match=f"no example is left of .*1 bad, the first: .*train.jsonl:1: .*{told}"):
        rehearse(read(config))


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"batches": "x"}, CheckpointError, "is not a state of a run: it has no batches"),
        ({"optimizer_states": [{"state": {}, "param_groups": []}]}, ConfigError, "the optimizer or its groups are others"),
        ({"state_dict": {}}, ConfigError, "is of another config than this one: it has no "),
        (None, CheckpointError, "it holds a list, not the state of a run"),
    ],
)
def test_a_checkpoint_that_is_none_of_this_run(config: Path, changes: Any, error: Any, told: str) -> None:
    done = train(config, trainer={"max_steps": 2, "val_check_interval": 4})
    path = done.folder / "checkpoints" / "last.ckpt"
    torch.save([1] if changes is None else dict(torch.load(path, weights_only=True)) | changes, path)
    for other in path.parent.glob("*.ckpt"):
        if other != path:
            other.unlink()
    before = {place: place.read_bytes() for place in done.folder.rglob("*") if place.is_file()}
    with pytest.raises(error, match=told):
        train(config, exp_manager={"resume_if_exists": True})
    assert {place: place.read_bytes() for place in done.folder.rglob("*") if place.is_file()} == before


def test_a_run_none_of_whose_checkpoints_is_whole_is_not_begun_over(config: Path) -> None:
    done = train(config, trainer={"max_steps": 2, "val_check_interval": 4})
    for path in (done.folder / "checkpoints").glob("*.ckpt"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="none of the checkpoints in .* is whole"):
        train(config, exp_manager={"resume_if_exists": True})


def test_another_width_is_told_before_the_runs_config_is_overwritten(config: Path) -> None:
    done = train(config, trainer={"max_steps": 2, "val_check_interval": 4})
    with pytest.raises(ConfigError, match="has the shape .*, and here .* Go on with the config that the run had"):
        train(config, encoder={"d_model": 16}, exp_manager={"resume_if_exists": True})
    assert yaml.safe_load((done.folder / "config.yaml").read_text("utf-8"))["encoder"]["d_model"] == 8


def test_two_runs_do_not_write_into_one_folder(config: Path) -> None:
    folder = config.parent / "runs" / "small" / "mine"
    hold = "import sys, time; from pathlib import Path; from sonant_training.running.claiming import claimed\n"
    hold += "with claimed(Path(sys.argv[1])): print('mine', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", hold, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"mine\n"
        with pytest.raises(ConfigError, match="another run is writing into"), claimed(folder):
            pass
        assert folder.exists()
        other.communicate(b"")
    assert not (config.parent / "runs").exists(), "nothing was written, so nothing is left"
    with claimed(folder):
        assert folder.exists()


def test_a_folder_of_runs_that_is_a_file(config: Path) -> None:
    (config.parent / "runs").write_text("x")
    with pytest.raises(ConfigError, match="exp_manager.exp_dir: .* cannot be written: Not a directory"):
        train(config)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="the processes of a run are found in /proc; the error itself is one line")
def test_a_process_that_reads_ahead_is_killed(config: Path) -> None:
    command = [str(Path(sys.executable).parent / "sonant"), "train", str(config)]
    several = ["train_ds.num_workers=1", "trainer.max_steps=100000", "trainer.val_check_interval=1000"]
    with subprocess.Popen([*command, *several], stderr=subprocess.PIPE, text=True) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while process.poll() is None and not (config.parent / "runs/small/version_0/metrics.jsonl").exists():
            time.sleep(0.02)
        for child in children.read_text().split():
            os.kill(int(child), 9)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 1 and "Error: a process that reads ahead has ended" in told and "Traceback" not in told
