"""The model that comes with its weights: it opens without a network, hears what its page says, and is as small as promised."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import attrs
import pytest
import torch
from click.testing import CliRunner

import sonant
from sonant.cli.main import app

FOLDER = Path(__file__).resolve().parents[1]
PACKAGE = FOLDER / "src" / "sonant_model_en_small"
SAMPLE = FOLDER / "sample.mp3"  # of the split that was not trained on
README = (FOLDER / "README.md").read_text("utf-8")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SONANT_MODEL", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.mark.usefixtures("no_network")
def test_it_hears_the_sample_where_nothing_can_be_fetched() -> None:
    done = CliRunner().invoke(app, ["transcribe", str(SAMPLE), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "using en-small" in done.stderr
    assert done.stdout.strip() in README


def test_the_same_words_alone_and_in_company() -> None:
    model = sonant.load("en-small", device="cpu")
    alone = model.transcribe(str(SAMPLE))[0].text
    assert [found.text for found in model.transcribe([str(SAMPLE)] * 3)] == [alone] * 3


def test_the_package_is_small_and_its_weights_are_bfloat16() -> None:
    assert sum(path.stat().st_size for path in PACKAGE.rglob("*") if path.is_file()) <= 25_000_000
    stored = sonant.load("en-small", device="cpu", dtype="stored")
    assert {weight.dtype for weight in stored.parameters()} == {torch.bfloat16}
    assert 5_000_000 <= sum(weight.numel() for weight in stored.parameters()) <= 15_000_000


def test_the_page_gives_the_rates_that_were_measured() -> None:
    scores = json.loads((PACKAGE / "model" / "scores.json").read_text("utf-8"))
    rows = dict(re.findall(r"^\| `(\w+)`.*?\| (.*) \|$", README, re.MULTILINE))
    assert {split: rows[split] for split in scores} == {
        split: f"{rates['greedy']:.1f} % | {rates['ngram']:.1f} %" for split, rates in scores.items()
    }


def test_it_listens_to_its_n_gram_unless_it_is_told_not_to() -> None:
    model = sonant.load("en-small", device="cpu")
    lm = str(files("sonant_model_en_small") / "model" / "lm.arpa.gz")
    own = model.search.config
    assert own.fusion.lm == "lm.arpa.gz"
    asked = attrs.asdict(own) | {"name": "ctc_beam", "fusion": {"lm": lm, "lm_weight": own.fusion.lm_weight}}
    assert model.transcribe(str(SAMPLE))[0].text == model.transcribe(str(SAMPLE), search=asked)[0].text
    greedy = model.transcribe(str(SAMPLE), search="ctc_greedy")[0]
    assert greedy.text == model.transcribe(str(SAMPLE), search="ctc_greedy", lm=lm, lm_weight=0.0)[0].text
