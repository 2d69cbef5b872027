"""Somebody else's plugin, the one that the tutorial builds: made a wheel, installed by pip, and used by name like any other."""

from __future__ import annotations

import importlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from attrs import frozen
from torch import Tensor

import sonant
import sonant_training
from doc_blocks import CASES, DOCS, blocks, metadata
from sonant import plugins, scaffold
from sonant.errors import ConfigError, UnknownName
from sonant.layout import FOLDER_CONFIG

TUTORIAL = DOCS / "tutorial"
ACME = TUTORIAL / "acme-speech"
LABEL = "acme-speech 0.1.0"

AGAIN = """
import json, sys
import sonant, torch

model = sonant.load(sys.argv[1], device="cpu")
sonant.save(model, "copy")
copy = sonant.load("copy", device="cpu")
audio = ["talk.wav", "side.wav"]
state, same = model.state_dict(), copy.state_dict()
print(json.dumps({
    "classes": [type(part).__module__ + "." + type(part).__name__ for part in (model.encoder, model.decoder)],
    "same weights": state.keys() == same.keys() and all(torch.equal(t, same[name]) for name, t in state.items()),
    "same results": model.transcribe(audio, timestamps="char") == copy.transcribe(audio, timestamps="char"),
}))
"""


@frozen
class Site:
    """A folder of installed packages on the import path, and one to work in."""

    packages: Path
    work: Path

    def python(self, *arguments: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SONANT_")} | {"PYTHONPATH": str(self.packages)}
        done = subprocess.run(
            [sys.executable, *map(str, arguments)], cwd=self.work, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done

    def sonant(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        return self.python("-c", "from sonant.cli.main import main; main()", *arguments, status=status)

    def train(self, *arguments: str) -> tuple[str, list[float]]:
        """`sonant train` with these; where the model is then, and the loss of each step."""
        told = self.sonant("train", *arguments, "trainer.log_every_n_steps=1").stderr
        (model,) = re.findall(r"^wrote (\S+/model)\b", told, re.MULTILINE)
        return model, [row["train_loss"] for row in self.beside(model, "metrics.jsonl") if "train_loss" in row]

    def beside(self, model: str, file: str) -> list[dict[str, Any]]:
        """The rows of a file of the run that made a model."""
        return [json.loads(line) for line in (self.work / model).with_name(file).read_text("utf-8").splitlines()]


def shown_files() -> Iterator[tuple[str, str]]:
    """The files that the tutorial has its readers write."""
    for page in TUTORIAL.glob("*.md"):
        for block in blocks(page):
            if block.file is not None and not (TUTORIAL / block.file).exists():
                yield block.file, block.text.partition("\n")[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Where the wheel of acme-speech is installed, with the tutorial's configs, manifests and recordings."""
    folder = tmp_path_factory.mktemp("acme")
    site = Site(folder / "packages", folder / "work")
    site.work.mkdir()
    pip = ("-m", "pip", "--disable-pip-version-check", "--quiet")
    site.python(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ACME)
    (wheel,) = folder.glob("*.whl")
    site.python(*pip, "install", "--no-deps", "--no-index", "--target", site.packages, wheel)
    for name, text in shown_files():
        (site.work / name).write_text(text, "utf-8")
    for name, recording in {"talk.wav": "a.wav", "side.wav": "b.wav"}.items():
        shutil.copy(CASES / recording, site.work / name)
    return site


def test_its_components_are_listed_and_described(site: Site) -> None:
    listed = json.loads(site.sonant("components", "--json").stdout)
    assert {(row["kind"], row["name"]) for row in listed if row["plugin"] == LABEL} == {
        ("encoder", "acme/ebranchformer"),
        ("decoder", "acme/cif"),
        ("search", "acme/cif_greedy"),
        ("loss", "acme/cif_loss"),
        ("task", "acme/keyword_spotting"),
    }
    assert "fastconformer" in {row["name"] for row in listed}
    described = site.sonant("describe", "encoder", "acme/ebranchformer").stdout
    assert f"encoder acme/ebranchformer ({LABEL})" in described
    assert re.search(r"merge_kernel_size +int +31 +frames of the convolution", described)
    task = site.sonant("describe", "task", "acme/keyword_spotting").stdout
    assert re.search(r"keywords +list\[str\] +required", task)
    assert re.search(r"^encoder +encoder +features to vectors", task, re.MULTILINE)
    assert "spot  " in site.sonant("--help").stdout


def test_a_config_names_them(site: Site) -> None:
    shown = yaml.safe_load(site.sonant("config", "show", "asr.yaml", "encoder.n_layers=3").stdout)
    assert shown["encoder"] | {"name": "acme/ebranchformer", "n_layers": 3, "n_heads": 4} == shown["encoder"]
    assert shown["decoder"] == {"name": "acme/cif", "kernel_size": 3, "context_size": 3, "dropout": 0.0}
    refused = site.sonant("config", "show", "spotter.yaml", "task.keyword=[up]", status=1).stderr
    assert "task.keyword" in refused
    assert "Did you mean 'keywords'" in refused


def test_a_recognizer_is_trained_saved_and_opened_again(site: Site) -> None:
    model, losses = site.train("asr.yaml", "trainer.max_steps=12")
    assert len(losses) == 12
    assert losses[-1] < losses[0] / 2
    (row, _) = json.loads(site.sonant("transcribe", "talk.wav", "side.wav", "-m", model, "-f", "json", "-t", "word").stdout)
    assert [word["text"] for word in row.get("words", [])] == row["text"].split()
    assert json.loads(site.python("-c", AGAIN, model).stdout) == {
        "classes": ["acme_speech.encoder.model.EBranchformer", "acme_speech.cif.model.Cif"],
        "same weights": True,
        "same results": True,
    }
    saved = yaml.safe_load((site.work / model / FOLDER_CONFIG).read_text("utf-8"))
    assert (saved["encoder"]["name"], saved["decoder"]["name"]) == ("acme/ebranchformer", "acme/cif")
    with pytest.raises(UnknownName, match=rf"no encoder named 'acme/ebranchformer'.*saved with .*{re.escape(LABEL)}"):
        sonant.load(site.work / model)  # this process does not have the plugin


def test_a_keyword_spotter_learns_where_its_words_are(site: Site) -> None:
    """It hears each word by itself in training, and then finds them in the whole recordings.

    One row more has no text: its task says that it learns nothing of that, and it is left out.
    """
    textless = '{"audio_filepath": "side.wav", "duration": 1.3}\n'
    (site.work / "more.jsonl").write_text((site.work / "words.jsonl").read_text("utf-8") + textless, "utf-8")
    model, losses = site.train("spotter.yaml", "train_ds.manifest_filepath=more.jsonl", "train_ds.batch_size=7")
    assert len(losses) == 60
    assert losses[-1] < losses[0] / 10
    (left_out,) = site.beside(model, "left_out.jsonl")
    assert left_out["where"].endswith("more.jsonl:7")
    assert left_out["reason"] == 'it has no "text", which says whether a keyword is in it'
    talk, side = json.loads(site.sonant("spot", "talk.wav", "side.wav", "-m", model, "-f", "json").stdout)
    (left,), (found,) = talk["keywords"], side["keywords"]
    assert left["text"] == "left"
    assert 2.0 < left["start"] < left["end"] <= 3.0  # the last of four words
    assert found["text"] == "side"
    assert found["start"] < found["end"] < 0.7  # the first of two
    assert site.sonant("spot", "talk.wav", "-m", model, "-f", "jsonl", "--threshold", "1").stdout.count('"text"') == 0
    refused = site.sonant("transcribe", "talk.wav", "-m", model, status=1).stderr
    assert refused.strip() == f"Error: {model} is a KeywordSpotter, which does not transcribe: name a recognizer with --model"


CTC = {
    "task": "asr",
    "preprocessor": {"name": "log_mel", "features": 16, "dither": 0.0},
    "tokenizer": {"name": "char", "labels": [" ", "e", "f", "n", "o", "r", "t"]},
    "encoder": {"name": "conformer", "n_layers": 1, "d_model": 16, "n_heads": 2, "subsampling_conv_channels": 4},
    "decoder": "ctc",
    "train_ds": {"manifest_filepath": "train.jsonl", "batch_size": 1, "num_workers": 0},
    "optim": {"name": "sgd", "lr": 0.1},
    "trainer": {"max_steps": 3, "accelerator": "cpu"},
    "exp_manager": {"tensorboard": False},
}


@pytest.fixture
def generated(tmp_path: Path) -> Iterator[None]:
    """A package as `sonant new-plugin` writes it, with components `lab/…`, is installed meanwhile."""
    kinds = ("task", "loss", "optimizer", "scheduler")
    scaffold.write(scaffold.plan("made-lab", kinds, vendor="lab"), tmp_path / "made-lab")
    source = str(metadata(tmp_path / "made-lab"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(source)
        plugins.refresh()
        yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "made_lab"]:
        del sys.modules[name]
    plugins.refresh()


def test_a_loss_is_told_the_size_of_the_vocabulary_and_learns_too(
    generated: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = importlib.import_module("made_lab.loss.model")
    built: list[Any] = []

    class Tempered(model.SmoothCtc):  # type: ignore[misc, name-defined]
        """The generated loss, of logits divided by a temperature for each label."""

        def __init__(self, config: Any, *, vocab_size: int) -> None:
            super().__init__(config)
            self.temperature = torch.nn.Parameter(torch.ones(vocab_size + 1))
            built.append(self)

        def forward(self, logits: Tensor, lens: Tensor, labels: Tensor, label_lens: Tensor) -> Tensor:
            loss: Tensor = super().forward(logits / self.temperature, lens, labels, label_lens)
            return loss

    monkeypatch.setattr(model, "SmoothCtc", Tempered)
    row = {"audio_filepath": str(CASES / "b.wav"), "text": "front"}
    Path("train.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    with pytest.raises(ConfigError, match="loss is missing: to train, the task 'asr' needs loss"):
        sonant_training.train(CTC)
    sonant_training.train(CTC, loss="lab/smooth_ctc")
    (loss,) = built
    assert loss.temperature.shape == (8,)
    assert (loss.temperature != 1).all()


def test_new_parts_are_trained(generated: None, tmp_path: Path) -> None:
    """The task, the optimizer and the schedule, with another learning rate and another momentum for the head."""
    sounds = {
        "tone": 0.3 * np.sin(2 * np.pi * 400 * np.arange(8000) / 16000),
        "noise": 0.1 * np.random.default_rng(0).standard_normal(8000),
    }
    for name, samples in sounds.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, 16000)
    rows = [{"audio_filepath": f"{name}.wav", "label": name} for name in sounds]
    manifest = tmp_path / "train.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    data = {"manifest_filepath": str(manifest), "batch_size": 2, "num_workers": 0}
    run = sonant_training.train(
        {
            "task": {"name": "lab/clip_label", "labels": list(sounds)},
            "preprocessor": "lab/log_power",
            "encoder": {"name": "lab/convnext", "d_model": 16, "n_layers": 1, "dropout": 0.0},
            "train_ds": data,
            "validation_ds": data,
            "optim": {
                "name": "lab/lion",
                "lr": 0.01,
                "sched": {"name": "lab/inverse_sqrt", "warmup_steps": 4},
                "groups": [{"match": "head", "lr": 0.005, "beta1": 0.5}],
            },
            "trainer": {"max_steps": 20, "accelerator": "cpu", "log_every_n_steps": 1},
            "exp_manager": {"exp_dir": str(tmp_path / "runs"), "tensorboard": False},
        }
    )
    assert run.metrics["val_label_errors"] == 0.0
    numbers = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    losses = {row["step"]: row["train_loss"] for row in numbers if "train_loss" in row}
    assert losses[20] < losses[1] / 2
    rates = {row["step"]: row["lr"] for row in numbers if "lr" in row}
    assert rates == pytest.approx({step: 0.01 * min(step / 4, math.sqrt(4 / step)) for step in range(1, 21)})
    (state,) = torch.load(run.folder / "checkpoints" / "last.ckpt", weights_only=True)["optimizer_states"]
    assert [(group["beta1"], len(group["params"])) for group in state["param_groups"]][1:] == [(0.5, 2)]
    model: Any = sonant.load(run.model, device="cpu")
    assert [clip.label for clip in model.classify([tmp_path / f"{name}.wav" for name in sounds])] == list(sounds)


def test_it_keeps_the_contract(site: Site) -> None:
    reports = json.loads(site.sonant("plugins", "--check", "--json", "acme-speech").stdout)["checks"]
    assert [r for r in reports if r["outcome"] == "failed"] == []
    assert [(r["check"], r["detail"]) for r in reports if r["outcome"] == "skipped"] == [
        ("encoder acme/ebranchformer: streaming equals offline", "does not stream"),
        ("search acme/cif_greedy: streaming equals one pass", "does not stream"),
        ("loss acme/cif_loss: gradients reach every parameter", "has no parameters to train"),
    ]


def test_its_own_tests_pass(site: Site) -> None:
    """Also where the contract is one line of its tests: see `tests/` of the package for what they hold the numbers against."""
    shutil.copytree(ACME / "tests", site.work / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    done = site.python("-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "tests").stdout
    assert re.search(r"^\d{3} passed, 3 skipped in", done, re.MULTILINE), done
