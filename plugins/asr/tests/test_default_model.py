"""Which model hears where none is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from sonant.cli.main import app
from sonant_asr.recognizing import DEFAULT_MODEL, SPARE_MODEL

CASES = Path(__file__).resolve().parents[3] / "tests" / "nemo-cases"
TEXT = "front center rear left"


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is in the cache, and nothing can be fetched."""
    monkeypatch.delenv("SONANT_MODEL", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def cards(folder: Path, *names: str, requires: str | None = None) -> str:
    source = {"file": str(CASES / "fastconformer_tdt_bpe.nemo")}
    card = {"task": "asr", "summary": "One clip by heart.", "source": source, "requires": [requires] if requires else []}
    models = dict.fromkeys(names, card)
    path = folder / "cards.yaml"
    path.write_text(yaml.safe_dump({"models": models}), "utf-8")
    return str(path)


@pytest.mark.usefixtures("offline")
def test_the_small_one_that_is_installed_stands_in(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["transcribe", str(CASES / "a.wav"), "--registry", cards(tmp_path, SPARE_MODEL)])
    assert (done.exit_code, done.stdout.strip()) == (0, TEXT)
    assert f"no --model given (nor SONANT_MODEL set): using {SPARE_MODEL} ({DEFAULT_MODEL} cannot be fetched)" in done.stderr


@pytest.mark.usefixtures("offline")
def test_without_it_the_error_says_what_is_missing(tmp_path: Path) -> None:
    registry = cards(tmp_path, SPARE_MODEL, requires="sonant-model-that-is-not-installed")
    done = CliRunner().invoke(app, ["transcribe", str(CASES / "a.wav"), "--registry", registry])
    assert done.exit_code == 1
    assert f"using {DEFAULT_MODEL}\n" in done.stderr
    assert "is not in the local cache" in done.stderr


@pytest.mark.usefixtures("offline")
def test_the_default_is_taken_where_it_can_be_had(tmp_path: Path) -> None:
    registry = cards(tmp_path, SPARE_MODEL, DEFAULT_MODEL)
    done = CliRunner().invoke(app, ["transcribe", str(CASES / "a.wav"), "--registry", registry])
    assert (done.exit_code, done.stdout.strip()) == (0, TEXT)
    assert f"using {DEFAULT_MODEL}\n" in done.stderr
