"""Somebody else's plugin, the one that the tutorial builds: made a wheel, installed by pip, and used by name like any other."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
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

    def train(self, config: str, steps: int) -> tuple[str, list[float]]:
        """`sonant train` for so many steps, and the loss of each of them; where the model is then, and these."""
        told = self.sonant("train", config, f"trainer.max_steps={steps}", "trainer.log_every_n_steps=1").stderr
        (model,) = re.findall(r"^wrote (\S+/model)\b", told, re.MULTILINE)
        rows = map(json.loads, (self.work / model).with_name("metrics.jsonl").read_text("utf-8").splitlines())
        return model, [row["train_loss"] for row in rows if "train_loss" in row]


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
    model, losses = site.train("asr.yaml", 12)
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
    """It hears each word by itself in training, and then finds them in the whole recordings."""
    model, losses = site.train("spotter.yaml", 60)
    assert losses[-1] < losses[0] / 10
    talk, side = json.loads(site.sonant("spot", "talk.wav", "side.wav", "-m", model, "-f", "json").stdout)
    (left,), (found,) = talk["keywords"], side["keywords"]
    assert left["text"] == "left"
    assert 2.0 < left["start"] < left["end"] <= 3.0  # the last of four words
    assert found["text"] == "side"
    assert found["start"] < found["end"] < 0.7  # the first of two
    assert site.sonant("spot", "talk.wav", "-m", model, "-f", "jsonl", "--threshold", "1").stdout.count('"text"') == 0
    refused = site.sonant("transcribe", "talk.wav", "-m", model, status=1).stderr
    assert refused.strip() == f"Error: {model} is a KeywordSpotter, which does not transcribe: name a recognizer with --model"


def test_a_recording_that_teaches_nothing_is_left_out(site: Site) -> None:
    """What the task's `prepare` says of it stands in the run's folder."""
    (site.work / "some.jsonl").write_text(
        (site.work / "words.jsonl").read_text("utf-8") + '{"audio_filepath": "side.wav", "duration": 1.3}\n', "utf-8"
    )
    told = site.sonant("train", "spotter.yaml", "train_ds.manifest_filepath=some.jsonl", "trainer.max_steps=2").stderr
    (model,) = re.findall(r"^wrote (\S+/model)$", told, re.MULTILINE)
    (row,) = map(json.loads, (site.work / model).with_name("left_out.jsonl").read_text("utf-8").splitlines())
    assert 'it has no "text", which says whether a keyword is in it' in row["reason"]


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


def test_a_loss_is_told_the_size_of_the_vocabulary_and_learns_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scaffold.write(scaffold.plan("loss-lab", ["loss"], vendor="lab"), tmp_path / "loss-lab")
    monkeypatch.syspath_prepend(str(metadata(tmp_path / "loss-lab")))
    monkeypatch.chdir(tmp_path)
    plugins.refresh()
    model = importlib.import_module("loss_lab.loss.model")
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
    try:
        with pytest.raises(ConfigError, match="loss is missing: to train, the task 'asr' needs loss"):
            sonant_training.train(CTC)
        sonant_training.train(CTC, loss="lab/smooth_ctc")
    finally:
        monkeypatch.undo()
        plugins.refresh()
    (loss,) = built
    assert loss.temperature.shape == (8,)
    assert (loss.temperature != 1).all()


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
