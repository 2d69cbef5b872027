"""The pieces of `sonant train`: where runs are written, how fast they go, what they say, what is drawn of them."""

from __future__ import annotations

import io
import json
import logging
import math
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import numpy as np
import pytest
import torch

from sonant import config as configs
from sonant.errors import ConfigError
from sonant.training import Score
from sonant_training.running import config as running
from sonant_training.running import experiment, pictures, progress, trainer_keys
from sonant_training.running.config import ExperimentConfig
from sonant_training.running.module import seed_of, trained
from sonant_training.running.pace import Pace, clock
from sonant_training.running.samples import table
from sonant_training.running.tally import Tally
from sonant_training.running.telling import told

DOCS = Path(__file__).resolve().parents[3] / "docs"


class OneProcess:
    """What a strategy of Lightning does where there is one process."""

    root_device = torch.device("cpu")

    def reduce(self, value: torch.Tensor, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "sum"
        return value


# Folders


def test_versions_are_counted_up_as_numbers(tmp_path: Path) -> None:
    config = ExperimentConfig(exp_dir=str(tmp_path), name="mine")
    assert experiment.choose(config, "file").folder == tmp_path / "mine" / "version_0"
    for version in ("version_2", "version_10", "other"):
        (tmp_path / "mine" / version).mkdir(parents=True)
    assert experiment.choose(config, "file").folder.name == "version_11"
    assert experiment.choose(attrs.evolve(config, name=None), "file").folder == tmp_path / "file" / "version_0"


def test_going_on_takes_the_newest_version_with_a_checkpoint(tmp_path: Path) -> None:
    config = ExperimentConfig(exp_dir=str(tmp_path), resume_if_exists=True)
    for number in (1, 2, 3):
        (tmp_path / "m" / f"version_{number}" / "checkpoints").mkdir(parents=True)
    assert experiment.choose(config, "m").folder.name == "version_4"
    for number in (1, 2):
        (tmp_path / "m" / f"version_{number}" / "checkpoints" / "last.ckpt").touch()
    assert experiment.choose(config, "m").folder.name == "version_2"


def test_a_version_that_is_there_is_not_written_into(tmp_path: Path) -> None:
    config = ExperimentConfig(exp_dir=str(tmp_path), version="first")
    (tmp_path / "m" / "first").mkdir(parents=True)
    assert experiment.choose(config, "m").folder.name == "first", "an empty folder may be taken"
    (tmp_path / "m" / "first" / "config.yaml").touch()
    with pytest.raises(ConfigError, match="holds a run already"):
        experiment.choose(config, "m")
    assert experiment.choose(attrs.evolve(config, resume_if_exists=True), "m").folder.name == "first"


# Numbers


def test_rates_are_sums_over_sums() -> None:
    tally = Tally()
    tally.add("dev", {"loss": 2.0}, [Score(name="a", counts={"wer": (1, 4)}), Score(name="b", counts={"wer": (3, 4)})])
    tally.add("dev", {"loss": 5.0}, [Score(name="c", counts={"wer": (0, 2)})])
    tally.add("far", {"loss": 1.0}, [Score(name="d", counts={"wer": (10, 10), "cer": (0, 0)})])
    rates = tally.rates(OneProcess())
    assert rates == {
        "loss": (2 * 2.0 + 5.0 + 1.0) / 4,
        "loss/dev": 3.0,
        "loss/far": 1.0,
        "wer": 14 / 20,
        "wer/dev": 0.4,
        "wer/far": 1.0,
    }


def test_an_only_set_has_no_name() -> None:
    tally = Tally()
    tally.add("", {"loss": 1.0}, [Score(name="a")])
    assert tally.rates(OneProcess()) == {"loss": 1.0}


def test_every_batch_of_every_rank_and_seed_draws_something_else() -> None:
    seeds = {seed_of(seed, batch, rank) for seed in range(12) for batch in range(12) for rank in range(12)}
    assert len(seeds) == 12**3
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of(1, 2, 3) == seed_of(1, 2, 3)


def test_parameters_have_the_names_that_configs_know() -> None:
    model = torch.nn.Module()
    model.encoder, model.scale = torch.nn.Linear(2, 3), torch.nn.Parameter(torch.ones(1))
    losses = torch.nn.ModuleDict({"loss": torch.nn.Linear(3, 1, bias=False)})
    view = dict(trained(model, losses).named_parameters())
    assert view.keys() == {"encoder.weight", "encoder.bias", "loss.weight", "scale"}
    assert view["loss.weight"] is losses["loss"].weight and view["scale"] is model.scale


def test_pace_leaves_pauses_out_of_the_speed_and_counts_them_in_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    pace = Pace(step=10, last=30)
    assert (pace.speed, pace.left) == (0.0, None)
    for step in (11, 12, 13, 14):
        now += 2.0
        pace.add(60.0, step)
    assert pace.speed == pytest.approx(30.0)
    assert pace.left == pytest.approx(8.0 / 4 * 16)
    now += 8.0  # a validation
    pace.resume()
    now += 2.0
    pace.add(60.0, 15)
    assert pace.speed == pytest.approx(30.0)
    assert pace.left == pytest.approx(18.0 / 5 * 15)


@pytest.mark.parametrize(("seconds", "text"), [(None, "?"), (0, "00:00"), (59.6, "01:00"), (3599, "59:59"), (4e5, "111:06:40")])
def test_times_are_written_as_clocks_show_them(seconds: float | None, text: str) -> None:
    assert clock(seconds) == text


# Words


def test_results_name_losses_first_and_rates_in_percent() -> None:
    metrics = {
        n: torch.tensor(v) for n, v in {"val_cer": 0.05, "val_wer/b": 0.2, "val_wer": 0.125, "val_loss": 1.5, "lr": 1.0}.items()
    }
    assert progress.results(metrics, "val") == "val_loss 1.5000  val_wer 12.50 %  val_cer 5.00 %  val_wer/b 20.00 %"
    assert progress.error_rate(metrics) == "wer 12.50 %"
    assert progress.error_rate({"val_loss": 1.0, "val_eer": 0.5}) == "eer 50.00 %"
    assert progress.error_rate({"val_loss": 1.0}) == ""


def fake_trainer(step: int, **metrics: float) -> Any:
    values = {name: torch.tensor(value) for name, value in metrics.items()}
    return SimpleNamespace(
        global_step=step,
        max_steps=8,
        world_size=2,
        accumulate_grad_batches=2,
        is_global_zero=True,
        sanity_checking=False,
        callback_metrics=values,
    )


def test_the_bar_has_all_that_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(progress, "_REFRESH", 0.0)
    bar, module = progress.Progress(bar=True), SimpleNamespace(device=torch.device("cpu"), log=lambda *_: None)
    bar.on_train_start(fake_trainer(4), module)  # type: ignore[arg-type]
    for step, loss in ((4, 1.5), (5, 0.5), (6, 0.25)):
        batch, outputs = SimpleNamespace(seconds=30.0), {"loss": torch.tensor(loss)}
        bar.on_train_batch_end(fake_trainer(step, val_wer=0.5), module, outputs, batch, 0)  # type: ignore[arg-type]
    bar.on_train_end(fake_trainer(6), module)  # type: ignore[arg-type]
    last = screen.getvalue().replace("\n", "\r").split("\r")
    shown = [line for line in last if "loss 0.500" in line]  # the last of them, times the batches of a step
    assert shown, screen.getvalue()
    assert re.search(r"training\s+75% \|.*\| 6/8, loss 0\.500  wer 50\.00 %  \d+ s/s  \d+\.\d GB  \d\d:\d\d left", shown[-1]), (
        shown[-1]
    )


def test_elsewhere_there_are_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    lines, module = progress.Progress(bar=False), SimpleNamespace(device=torch.device("cpu"), log=lambda *_: None)
    with told(tmp_path / "train.log"):
        lines.on_train_start(fake_trainer(0), module)  # type: ignore[arg-type]
        batch, outputs = SimpleNamespace(seconds=1.0), {"loss": torch.tensor(1.0)}
        lines.on_train_batch_end(fake_trainer(1), module, outputs, batch, 0)  # type: ignore[arg-type]
        logging.getLogger("sonant_training.data").warning("a warning of another part")
    logging.getLogger("sonant_training.data").info("nobody hears this")
    text = capsys.readouterr().err
    assert re.match(r"step 1/8  loss 2\.000  \d+ s/s  \d+\.\d GB  \d\d:\d\d left\na warning of another part\n$", text), text
    written = (tmp_path / "train.log").read_text("utf-8").splitlines()
    assert [line[20:] for line in written] == text.splitlines()


def test_transcripts_cannot_break_the_table() -> None:
    text = table([Score(name="a|b", reference="one | two\n<b>", result="*x*")])
    assert text.splitlines()[2] == r"| a\|b | one \| two \<b\> | \*x\* |"


# Pictures


def test_the_picture_of_a_ctc_head_shows_the_labels_of_the_text_and_the_likely_ones() -> None:
    logits = torch.full((6, 5), -9.0)
    for frame, label in enumerate([4, 2, 4, 0, 3, 4]):
        logits[frame, label] = 9.0
    assert pictures.shown_labels(logits, torch.tensor([2, 0, 2])) == [2, 0, 3, 4]
    tokenizer = SimpleNamespace(pieces=lambda ids: [["▁the", "$a", "b", "c"][i] for i in ids], vocab_size=4)
    figure = pictures.draw(tokenizer, logits, torch.tensor([2, 0, 2]))
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["b", "▁the", "c", "blank"]
    assert np.array_equal(
        np.asarray(axes.images[0].get_array()).round(),
        [[0, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0] * 4 + [1, 0], [1, 0, 1, 0, 0, 1]],
    )
    assert pictures.drawn(figure).shape[2] == 3


def test_the_picture_of_a_transducer_shows_the_next_label_of_the_text() -> None:
    """Against the probabilities computed one by one; the durations behind the labels of a TDT head take no part."""
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(7, 4, 6 + 3, generator=generator), torch.tensor([5, 0, 2])
    tokenizer = SimpleNamespace(pieces=lambda ids: [str(i) for i in ids], vocab_size=5)
    labels = torch.tensor([4, 0, 2])
    found = pictures.next_label(logits, labels, tokenizer)
    for t in range(7):
        for u in range(3):
            chances = [math.exp(float(v)) for v in logits[t, u, :6]]
            assert float(found[t, u]) == pytest.approx(chances[int(labels[u])] / sum(chances), rel=1e-5)
    assert [tick.get_text() for tick in pictures.draw(tokenizer, logits, labels).axes[0].get_yticklabels()] == ["4", "0", "2"]


@pytest.mark.parametrize(
    ("logits", "given", "drawn"),
    [
        ((2, 9, 5), {}, (7, 5)),  # of frames, padded
        ((2, 9, 4, 8), {}, (7, 3, 8)),  # of a transducer
        ((2, 3, 5), {}, None),  # of the labels of an attention head
        ((2, 9, 3, 8), {}, None),  # no transducer: that has a row more than labels
        ((2, 5), {}, None),
        ((2, 9, 5), {"lens": None}, None),  # the loss does not want to know the lengths
    ],
)
def test_a_picture_is_drawn_of_scores_for_frames_only(logits: Any, given: dict[str, Any], drawn: Any) -> None:
    """And a loss is listened to without being changed: anybody's, called by anybody's task."""
    known = {"lens": torch.tensor([7, 9]), "labels": torch.tensor([[3, 1, 0], [2, 2, 1]]), "label_lens": torch.tensor([2, 3])}
    loss = Anything()
    with pictures.listening(torch.nn.ModuleDict({"loss": loss})) as heard:
        loss(torch.ones(1), logits=torch.randn(logits), **known | given)
    loss(logits=torch.randn(2, 9, 5), **known)
    assert {key: tuple(example["logits"].shape) for key, example in heard.items()} == ({} if drawn is None else {"loss": drawn})
    assert all(example["labels"].tolist() == [3, 1] for example in heard.values())


class Anything(torch.nn.Module):
    """A loss that takes whatever it is given."""

    def forward(self, *args: Any, **named: Any) -> torch.Tensor:
        return torch.zeros(())


# Configs


def test_validation_comes_about_every_thousand_steps_and_near_the_end() -> None:
    for steps in (1, 7, 999, 1000, 1001, 2500, 100_000, 123_457):
        for together in (1, 4):
            interval = trainer_keys.filled({"max_steps": steps, "accumulate_grad_batches": together})["val_check_interval"]
            assert interval % together == 0 and 1 <= interval // together <= 1000
            assert steps % (interval // together) < math.ceil(steps / 1000), "the last is near the end"


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"checkpoints": {"every_n_steps": 0}}, "every_n_steps"),
        ({"early_stopping": {"patience": 0}}, "patience"),
        ({"ema": {"decay": 1.0}}, "decay 1.0 is not from 0 up to, but without, 1"),
        ({"ema": {"dekay": 1.0}}, "exp_manager.ema.dekay: unknown key. Did you mean 'decay'?"),
        ({"resume_from": "a.ckpt", "resume_if_exists": True}, "give one of them"),
        ({"version": ".."}, "version '..' is not the name of a folder"),
    ],
)
def test_experiments_are_checked(section: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        configs.fill(ExperimentConfig, section, "exp_manager")
    assert told in str(error.value) and str(error.value).startswith("exp_manager")


def test_times_have_four_parts() -> None:
    assert running.seconds("01:02:03:04") == ((24 + 2) * 60 + 3) * 60 + 4
    with pytest.raises(ValueError, match="days:hours:minutes:seconds"):
        running.seconds("02:03:04")


def test_the_page_has_every_field_of_exp_manager() -> None:
    text = (DOCS / "training.md").read_text("utf-8")
    section = text[text.index("### exp_manager") : text.index("## From Python")]
    rows = set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE))
    assert rows == {a.name for a in attrs.fields(ExperimentConfig)}
    for cls in (running.CheckpointsConfig, running.EarlyStoppingConfig, running.EmaConfig):
        key = next(a.name for a in attrs.fields(ExperimentConfig) if cls.__name__ in str(a.type))
        paragraph = next(part for part in section.split("\n\n") if part.startswith(f"`{key}`"))
        assert {a.name for a in attrs.fields(cls)} <= set(re.findall(r"`(\w+)`", paragraph)), key


def test_every_key_that_is_decided_elsewhere_is_one_of_lightnings() -> None:
    import inspect

    from lightning.pytorch import Trainer

    known = inspect.signature(Trainer.__init__).parameters
    refused = [key for key in known if key != "self" and _is_refused(key)]
    assert "logger" in refused and "max_steps" not in refused and "precision" not in refused
    values = {"max_steps": 5, "precision": "bf16-mixed", "devices": 2, "gradient_clip_val": 0.5}
    assert values.items() <= trainer_keys.filled(values).items()
    assert json.dumps(trainer_keys.filled(values)), "plain values"


def _is_refused(key: str) -> bool:
    try:
        trainer_keys.filled({"max_steps": 5, key: 1})
    except ConfigError as error:
        return "is not set here" in str(error)
    return False
