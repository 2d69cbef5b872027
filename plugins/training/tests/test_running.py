"""`sonant train`: from two recordings to a model that hears them, and what a run leaves behind."""

from __future__ import annotations

import json
import math
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import sonant
import sonant_training
from sonant.build import training_parts
from sonant.cli.main import app
from sonant.errors import ConfigError
from sonant_training.errors import DataError
from sonant_training.running.training import Outcome, read, rehearse, train

CASES = Path(__file__).resolve().parents[3] / "tests" / "nemo-cases"
TEXTS = {"a.wav": "front center rear left", "b.wav": "side right"}
LABELS = sorted({*"".join(TEXTS.values())})


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_config(folder: Path, **changes: Any) -> Path:
    """A config of a small recognizer of two recordings, beside their manifest."""
    rows = [{"audio_filepath": str(CASES / name), "text": text} for name, text in TEXTS.items()]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    data = {"manifest_filepath": "train.jsonl", "batch_size": 2, "num_workers": 0, "num_buckets": 1}
    encoder = {"d_model": 48, "n_heads": 4, "n_layers": 1, "subsampling_factor": 4, "subsampling_conv_channels": 16}
    config = {
        "task": "asr",
        "preprocessor": {"name": "log_mel", "features": 40},
        "tokenizer": {"name": "char", "labels": LABELS},
        "encoder": {"name": "fastconformer", **encoder, "dropout": 0.1},
        "decoder": "ctc",
        "loss": "ctc",
        "train_ds": data,
        "validation_ds": data,
        "optim": {"name": "adamw", "lr": 4.0e-3, "sched": {"name": "cosine", "warmup_steps": 10}},
        "trainer": {"max_steps": 4, "accelerator": "cpu", "gradient_clip_val": 1.0, "log_every_n_steps": 2},
        "exp_manager": {"exp_dir": str(folder / "runs"), "checkpoints": {"monitor": "val_cer"}},
    }
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(config | changes), "utf-8")
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A run of some seconds, after which the model knows both recordings."""
    path = write_config(tmp_path_factory.mktemp("trained"))
    test = {"manifest_filepath": "train.jsonl", "batch_size": 1, "num_workers": 0}
    return sonant_training.train(path, trainer={"max_steps": 120, "val_check_interval": 40}, test_ds=test)


def rows_of(run: Outcome) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text("utf-8").splitlines()]


# What a run leaves


def test_the_model_hears_what_it_was_taught(trained: Outcome) -> None:
    model = sonant.load(trained.model, device="cpu")
    found = model.transcribe([CASES / name for name in TEXTS])
    assert [transcript.text for transcript in found] == list(TEXTS.values())
    assert (trained.steps, trained.metrics["val_wer"], trained.metrics["test_wer"]) == (120, 0.0, 0.0)


def test_the_numbers_are_written_down(trained: Outcome) -> None:
    rows = rows_of(trained)
    losses = {row["step"]: row["train_loss"] for row in rows if "train_loss" in row}
    assert list(losses) == list(range(2, 121, 2))
    assert losses[120] < 0.2 < 20 < losses[2]
    assert [row["step"] for row in rows if "val_wer" in row] == [40, 80, 120]
    assert [row["step"] for row in rows if "test_wer" in row] == [120]
    rates = {row["step"]: row["lr"] for row in rows if "lr" in row}
    assert rates[2] == pytest.approx(4.0e-3 * 2 / 11)  # the second step of a warm-up of ten
    assert rates[10] == pytest.approx(4.0e-3 * 10 / 11)
    assert rates[120] < 1e-5
    assert all(row["grad_norm"] > 0 for row in rows if "grad_norm" in row)


def test_tensorboard_has_curves_transcripts_and_pictures(trained: Outcome) -> None:
    events = EventAccumulator(str(trained.folder / "tensorboard")).Reload()
    assert {"train_loss", "lr", "grad_norm", "audio_seconds_per_second", "val_wer", "val_loss"} <= {*events.Tags()["scalars"]}
    text = events.Tensors("samples/text_summary")[-1].tensor_proto.string_val[0].decode()
    assert text.count("| front center rear left | front center rear left |") == 1
    assert text.count("| side right | side right |") == 1
    pictures = events.Images("alignment/loss")
    assert [picture.step for picture in pictures] == [40, 80, 120]
    png = pictures[-1].encoded_image_string
    assert png[:8] == b"\x89PNG\r\n\x1a\n" and min(struct.unpack(">II", png[16:24])) > 300


def test_the_filled_config_lies_beside_the_run(trained: Outcome) -> None:
    written = yaml.safe_load((trained.folder / "config.yaml").read_text("utf-8"))
    assert written["encoder"]["conv_kernel_size"] == 9, "defaults are filled"
    assert written["train_ds"]["on_bad"] == "skip" and written["exp_manager"]["final"] == "best"
    assert written["trainer"]["max_steps"] == 120, "what was given in Python counts"


def test_the_stored_model_has_nothing_of_the_run(trained: Outcome) -> None:
    stored = yaml.safe_load((trained.model / "config.yaml").read_text("utf-8"))
    assert not {"train_ds", "optim", "trainer", "exp_manager", "loss"} & stored.keys()


def test_the_log_tells_the_run(trained: Outcome) -> None:
    text = (trained.folder / "train.log").read_text("utf-8")
    assert "step 120/120  val_loss" in text and "val_wer 0.00 %  val_cer 0.00 %" in text
    assert "said   front center rear left" in text and "heard  front center rear left" in text


# What follows from numbers


def test_a_run_is_repeatable_and_another_seed_is_another_run(config: Path) -> None:
    def states(seed: int) -> list[torch.Tensor]:
        run = train(config, seed=seed, exp_manager={"tensorboard": False})
        return list(sonant.load(run.model, device="cpu").state_dict().values())

    first, again, other = states(1), states(1), states(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_two_batches_a_step_are_one_batch_of_both(config: Path) -> None:
    """Without what depends on the batch (dropout, normalization by batch), accumulated gradients are those of the whole."""
    still = {"dropout": 0.0, "dropout_pre_encoder": 0.0, "conv_norm_type": "layer_norm"}
    shared: dict[str, Any] = {"encoder": still, "preprocessor": {"dither": 0.0}, "optim": {"name": "sgd", "lr": 0.1}}
    shared["exp_manager"] = {"tensorboard": False, "final": "last"}
    one = train(config, trainer={"log_every_n_steps": 1}, **shared)
    both = {"accumulate_grad_batches": 2, "log_every_n_steps": 1}
    two = train(config, train_ds={"batch_size": 1}, trainer=both, **shared)
    assert two.steps == one.steps == 4
    a, b = (sonant.load(run.model, device="cpu").state_dict() for run in (one, two))
    assert all(torch.allclose(a[name], b[name], atol=1e-5) for name in a)
    losses = [row["train_loss"] for row in rows_of(one) if "train_loss" in row]
    assert losses[3] < losses[0] - 5, "the weights have moved"


# What is refused


def test_dry_run_writes_nothing(config: Path) -> None:
    text = rehearse(read(config))
    assert "2 examples, 4.3 s, 1.6 s of padding" in text
    assert "encoder" in text and "val_wer" in text
    assert not (config.parent / "runs").exists()


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("trainer.max_step=5", "trainer.max_step: unknown key. Did you mean 'max_steps'?"),
        ("trainer.logger=false", "trainer.logger is not set here: exp_manager.tensorboard says whether there is one"),
        ("trainer.max_epochs=5", "trainer.max_epochs is not set here: the training data repeats without end"),
        ("trainer.max_steps=0", "trainer.max_steps: expected a number of optimizer steps, from 1 on, not 0"),
        ("trainer.max_steps=null", "trainer.max_steps is missing"),
        ("trainer.val_check_interval=0.5", "trainer.val_check_interval: expected a number of batches, not 0.5"),
        ("trainer.accelerator=abacus", "trainer: "),
        ("trainer.max_time=00:12:00:00", "trainer.max_time is not set here: exp_manager.max_time_per_run ends a run between two"),
        ("exp_manager.tensorbord=true", "exp_manager.tensorbord: unknown key. Did you mean 'tensorboard'?"),
        ("exp_manager.name=a/b", "exp_manager: name 'a/b' is not the name of a folder"),
        ("exp_manager.max_time_per_run=soon", "'soon' is not a time of the form days:hours:minutes:seconds"),
        ("exp_manager.resume_from=nowhere.ckpt", "exp_manager.resume_from: there is no nowhere.ckpt"),
        ("optim.lrr=1", "optim.lrr: unknown key. Did you mean 'lr'?"),
        ("optim.sched.name=cosin", "optim.sched.name: no scheduler named 'cosin'. Did you mean 'cosine'?"),
        ("loss=null", "loss is missing: to train, the task 'asr' needs loss: {name: …}"),
        ("train_ds=null", "train_ds is missing: to train, a config needs it, e.g. train_ds: {manifest_filepath: train.jsonl"),
        ("train_ds.batch=3", "train_ds.batch: unknown key."),
        ("seed=-1", "seed: expected a whole number from 0"),
    ],
)
def test_mistakes_are_told_with_their_place(config: Path, override: str, told: str) -> None:
    result = CliRunner().invoke(app, ["train", str(config), override])
    assert result.exit_code == 1 and told in result.output, result.output
    assert not (config.parent / "runs").exists()


def test_a_run_that_cannot_begin_leaves_nothing(config: Path) -> None:
    (config.parent / "train.jsonl").unlink()
    result = CliRunner().invoke(app, ["train", str(config)])
    assert result.exit_code == 1 and "train.jsonl" in result.output
    assert not list((config.parent / "runs").rglob("version_*"))


_RUN = """
import sys
from sonant.cli.main import app
try:
    app(sys.argv[1:], standalone_mode=False)
except Exception as error:
    print(error.message)
print(*sys.modules)
"""


def test_mistakes_in_a_config_are_told_before_anything_heavy_is_imported(config: Path) -> None:
    arguments = [sys.executable, "-c", _RUN, "train", str(config), "encoder.n_layer=2"]
    message, modules = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "encoder.n_layer: unknown key. Did you mean 'n_layers'?" in message
    assert "sonant_training.running.reading" in modules.split()
    assert not {"torch", "lightning", "lhotse", "matplotlib"} & {*modules.split()}


def test_validation_must_fall_on_a_step(config: Path) -> None:
    with pytest.raises(ConfigError, match="3 is not a multiple of 2"):
        train(config, trainer={"val_check_interval": 3, "accumulate_grad_batches": 2})


def test_several_validation_sets_have_names(config: Path) -> None:
    data = {"manifest_filepath": "train.jsonl", "batch_size": 1, "num_workers": 0, "max_duration": 2.0}
    path = write_config(config.parent, validation_ds={"short": data, "all": {**data, "max_duration": 20.0}})
    metrics = train(path, exp_manager={"tensorboard": False}).metrics
    assert {"val_wer/short", "val_wer/all", "val_wer"} <= metrics.keys()
    # Two words are in the short one, six in both: the rate of all is of eight.
    assert metrics["val_wer"] == pytest.approx((2 * metrics["val_wer/short"] + 6 * metrics["val_wer/all"]) / 8)
    assert metrics["val_loss"] == pytest.approx((metrics["val_loss/short"] + 2 * metrics["val_loss/all"]) / 3, rel=1e-5)


def test_bad_examples_are_listed(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (config.parent / "train.jsonl").open("a") as stream:
        stream.write(json.dumps({"audio_filepath": str(CASES / "b.wav"), "text": "Ω"}) + "\n")
    run = train(config, train_ds={"batch_size": 3}, exp_manager={"tensorboard": False})
    listed = [json.loads(line) for line in (run.folder / "left_out.jsonl").read_text("utf-8").splitlines()]
    assert [row["where"] for row in listed] == [f"{config.parent / 'train.jsonl'}:3"] and "'Ω'" in listed[0]["reason"]
    assert "1 examples were left out" in capsys.readouterr().err


def test_a_validation_set_of_nothing_that_can_be_used_is_an_error(config: Path) -> None:
    """After the first batch, of which that may be so by chance."""
    bad = [{"audio_filepath": str(CASES / "b.wav"), "text": "Ω"}]
    (config.parent / "bad.jsonl").write_text("".join(json.dumps(row) + "\n" for row in bad), "utf-8")
    data = {"manifest_filepath": "bad.jsonl", "batch_size": 1, "num_workers": 0}
    path = write_config(config.parent, validation_ds=data)
    with pytest.raises(DataError, match="validation_ds: none of its examples can be used"):
        train(path, trainer={"max_steps": 1}, exp_manager={"tensorboard": False})


def test_the_numbers_of_a_loss_that_is_none_are_null(tmp_path: Path) -> None:
    from sonant_training.running.metrics import MetricsFile

    MetricsFile(tmp_path / "m.jsonl").log_metrics({"a": math.nan, "b": math.inf, "c": 1.5, "epoch": 0}, 0)
    row = json.loads((tmp_path / "m.jsonl").read_text())
    assert (row["step"], row["a"], row["b"], row["c"]) == (1, None, None, 1.5) and "epoch" not in row


# Other heads, other ends


@pytest.mark.parametrize("family", ["rnnt", "tdt"])
def test_hybrids_learn_with_both_losses_and_are_drawn_twice(tmp_path: Path, family: str) -> None:
    head = {"name": family, "pred_hidden": 16, "joint_hidden": 16}
    path = write_config(tmp_path, decoder=head, loss=family, aux_decoder="ctc", aux_loss="ctc")
    run = train(path, trainer={"max_steps": 2, "val_check_interval": 2})
    assert {"val_loss", f"val_{family}_loss", "val_ctc_loss", "train_loss", f"train_{family}_loss"} <= run.metrics.keys()
    weight = sonant.load(run.model, device="cpu").config.aux_loss_weight
    mixed = (1 - weight) * run.metrics[f"val_{family}_loss"] + weight * run.metrics["val_ctc_loss"]
    assert run.metrics["val_loss"] == pytest.approx(mixed, rel=1e-4)
    events = EventAccumulator(str(run.folder / "tensorboard")).Reload()
    assert {*events.Tags()["images"]} == {"alignment/loss", "alignment/aux_loss"}


def test_a_run_that_gets_no_better_ends(config: Path) -> None:
    still = {"lr": 0.0, "sched": None}
    stopping = {"early_stopping": {"patience": 2}, "tensorboard": False}
    run = train(config, optim=still, trainer={"max_steps": 50, "val_check_interval": 2}, exp_manager=stopping)
    assert run.steps == 6, "one validation to begin with, and two that are no better"


def test_a_run_whose_time_is_over_goes_on_as_if_nothing_had_been(config: Path) -> None:
    """With dropout and dither, bit for bit."""
    shared = {"tensorboard": False, "final": "last"}
    first = train(config, exp_manager={**shared, "name": "pieces", "max_time_per_run": "00:00:00:00"})
    assert first.steps == 1
    rest = train(config, exp_manager={**shared, "name": "pieces", "resume_if_exists": True})
    whole = train(config, exp_manager={**shared, "name": "whole"})
    assert (rest.folder, rest.steps, whole.steps) == (first.folder, 4, 4)
    a, b = (sonant.load(run.model, device="cpu").state_dict() for run in (rest, whole))
    assert all(torch.equal(a[name], b[name]) for name in b)
    pieces, at_once = ({row["step"]: row["train_loss"] for row in rows_of(run) if "train_loss" in row} for run in (rest, whole))
    assert pieces.items() > at_once.items() and pieces.keys() - at_once.keys() == {1}, "a row where it stopped, and all others"


def test_a_task_that_cannot_be_trained_says_so(config: Path) -> None:
    model = sonant.build(config)
    assert training_parts(model).keys() == {"loss"}
    model.encoder.blueprint = SimpleNamespace(config=SimpleNamespace(task=SimpleNamespace(name="deaf"), training={}))
    with pytest.raises(
        ConfigError, match="task: 'deaf' cannot be trained: its model has no prepare and no collate and no loss and"
    ):
        training_parts(model.encoder)


def test_without_validation_the_last_weights_become_the_model(config: Path) -> None:
    run = train(config, validation_ds=None, test_ds=None, exp_manager={"tensorboard": False})
    assert not any(name.startswith("val_") for name in run.metrics)
    last = torch.load(run.folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    saved = sonant.load(run.model, device="cpu").state_dict()
    assert all(torch.equal(last[f"model.{name}"], value) for name, value in saved.items())
