"""Language models and phrases from the user's side: `transcribe(boost=…, lm=…)`, and the options of the commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import soundfile
import yaml
from attrs import frozen
from click.testing import CliRunner

import sonant
from nemo_cases import noisy
from sonant.cli.main import app
from sonant.errors import ConfigError
from sonant_asr.ctc.config import CtcBeamConfig
from sonant_asr.fusion import merging
from sonant_asr.fusion.config import FusionConfig
from sonant_asr.fusion.estimating import arpa_of
from sonant_asr.fusion.phrases import listened, read_phrases

CASES = Path(__file__).resolve().parents[3] / "tests" / "nemo-cases"
MODEL = CASES / "fastconformer_ctc_bpe.nemo"
MISHEARD, SAID = "front cter rear left", "front center rear left"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`a.wav` with noise, of which greedy search hears `MISHEARD`."""
    path = tmp_path_factory.mktemp("audio") / "noisy.wav"
    soundfile.write(path, noisy(CASES / "a.wav"), 16000)
    return path


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model that has read of centers."""
    path = tmp_path_factory.mktemp("lm") / "lm.arpa"
    texts = ["front center", "rear center", "center left", "front left", "rear left", "rear right"]
    path.write_text(arpa_of(texts, sonant.load(MODEL).tokenizer, order=3), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def model() -> Any:
    return sonant.load(MODEL)


def heard(model: Any, recording: Path, **options: Any) -> str:
    return str(model.transcribe(recording, **{"search": "ctc_beam", **options})[0].text)


# Python


def test_a_phrase_is_heard_when_it_is_favoured(model: Any, recording: Path) -> None:
    assert heard(model, recording) == MISHEARD
    assert heard(model, recording, boost=["center"]) == SAID
    assert heard(model, recording, boost=["center"], boost_weight=0.0) == MISHEARD
    assert heard(model, recording, boost={"center": 1.0, "left": 0.1}) == SAID


def test_a_language_model_is_listened_to(model: Any, recording: Path, lm: Path) -> None:
    assert heard(model, recording, lm=lm, lm_weight=0.5) == SAID
    assert heard(model, recording, lm=str(lm), lm_weight=0.0) == MISHEARD


def test_both_go_into_the_section_of_the_search(model: Any, recording: Path) -> None:
    section = {"name": "ctc_beam", "fusion": {"boost": ["center"], "boost_weight": 0.0}}
    assert heard(model, recording, search=section) == MISHEARD
    assert heard(model, recording, search=section, boost_weight=1.0) == SAID
    assert heard(model, recording, search=section | {"beam_size": 2}, boost=["rear"], boost_weight=1.0) == MISHEARD


def test_the_search_of_a_config_listens_too(recording: Path, tmp_path: Path) -> None:
    sonant.load(MODEL).blueprint  # noqa: B018  # the model opens
    CliRunner().invoke(app, ["convert", str(MODEL), str(tmp_path / "folder")], catch_exceptions=False)
    file = tmp_path / "folder" / "config.yaml"
    config = yaml.safe_load(file.read_text("utf-8"))
    file.write_text(yaml.safe_dump(config | {"search": {"name": "ctc_beam", "beam_size": 2}}), encoding="utf-8")
    model = sonant.load(tmp_path / "folder")
    assert model.transcribe(recording)[0].text == MISHEARD
    assert model.transcribe(recording, boost=["center"])[0].text == SAID
    assert model.search.config.beam_size == 2
    assert model.transcribe(recording)[0].text == MISHEARD


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"boost": "center"}, "boost must be a list of phrases or a mapping of phrases to weights, not 'center'"),
        ({"boost": ["Zürich"]}, "this model cannot write 'Zürich'"),
        ({"boost_weight": 2.0}, "boost_weight weighs boost, which is not given"),
        ({"lm_weight": 2.0}, "lm_weight weighs lm, which is not given"),
        ({"lm": "none.arpa"}, r"lm: the config names the file 'none\.arpa'"),
        ({"boost": ["left"], "boost_weight": "much"}, r"search\.fusion\.boost_weight"),
        ({"boost": ["left"], "boost_weight": float("nan")}, "boost_weight nan must be a finite number"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_decoded(model: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model.transcribe("missing.wav", search="ctc_beam", **options)


def test_a_search_that_listens_to_nothing_names_those_that_do() -> None:
    @frozen(kw_only=True)
    class Deaf:
        beam_size: int = 1

    refusal = "search='deaf' takes no language model and no phrases; searches of this head that do: "
    for family, others in {
        "ctc": "'ctc_beam', 'ctc_greedy'",
        "tdt": "'transducer_beam', 'transducer_greedy', 'transducer_maes'",
    }.items():
        with pytest.raises(ConfigError, match=f"^{refusal}{others}$"):
            merging.listening(Deaf(), {"boost": ["a"]}, "deaf", family)


def test_what_is_asked_comes_over_what_the_config_says() -> None:
    before = CtcBeamConfig(beam_size=3, fusion=FusionConfig(lm="a.arpa", lm_weight=0.7, depth_scaling=1.0))
    after = merging.listening(before, {"boost": ["x"], "lm_weight": 1}, "ctc_beam", "ctc")
    assert after == CtcBeamConfig(beam_size=3, fusion=FusionConfig(lm="a.arpa", lm_weight=1.0, depth_scaling=1.0, boost=["x"]))


# Commands


def run(*arguments: Any) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def test_transcribe_takes_phrases_and_a_language_model(recording: Path, lm: Path, tmp_path: Path) -> None:
    command = ("transcribe", recording, "--model", MODEL, "--search", "ctc_beam")
    (tmp_path / "words.txt").write_text("side\ncenter\t2.5\n", encoding="utf-8")
    assert run(*command) == MISHEARD
    assert run(*command, "--boost", "side, center") == SAID
    assert run(*command, "--boost", "center", "--boost-weight", 0) == MISHEARD
    assert run(*command, "--boost-file", tmp_path / "words.txt") == SAID
    assert run(*command, "--lm", lm, "--lm-weight", 0.5) == SAID


def test_evaluate_says_what_was_listened_to(recording: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "test.jsonl"
    manifest.write_text(json.dumps({"audio_filepath": str(recording), "text": SAID}), encoding="utf-8")
    command = ("evaluate", manifest, "--model", MODEL, "--search", "ctc_beam", "--output", tmp_path / "report")
    assert "25.00 %" in run(*command)
    refused = CliRunner().invoke(app, [*map(str, command), "--boost", "center"])
    assert refused.exit_code == 1
    assert "and this run is model" in refused.output
    assert "boost center" in refused.output
    assert "25.00 %" not in run(*command, "--boost", "center", "--overwrite")
    assert json.loads((tmp_path / "report" / "rows.jsonl").read_text("utf-8"))["boost"] == "center"


def test_phrases_of_a_file_may_have_weights(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_bytes(b"\xef\xbb\xbfGrace Hopper\r\n\n  Sonant \t2.5\nSt. Andrews, Fife\n")
    assert read_phrases(file) == {"Grace Hopper": 1.0, "Sonant": 2.5, "St. Andrews, Fife": 1.0}
    asked = listened("Fife, Sonant,", str(file), 2.0, None, None)
    assert asked["boost"] == {"Grace Hopper": 1.0, "Sonant": 1.0, "St. Andrews, Fife": 1.0, "Fife": 1.0}
    assert listened(None, None, None, None, None) == dict.fromkeys(("boost", "boost_weight", "lm", "lm_weight"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no phrases; write one on each line"),
        (b"a\tmuch\n", r"words\.txt:1: 'much', behind the tab, is not a weight, as 1\.5 is"),
        (b"\xff\xfe\xff", "cannot be read"),
    ],
)
def test_a_file_without_phrases_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_phrases(tmp_path / "words.txt")


def test_commas_alone_are_no_phrases() -> None:
    with pytest.raises(ConfigError, match="--boost ', ,' has no phrases"):
        listened(", ,", None, None, None, None)
