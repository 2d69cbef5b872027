"""Beam searches from the user's side: sections of `search`, alternatives, and `--beam`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import soundfile
from attrs import evolve, frozen
from click.testing import CliRunner

import sonant
from nemo_cases import noisy
from sonant.cli.main import app
from sonant.errors import ConfigError
from sonant.protocols import Hypothesis
from sonant.results import Alternative
from sonant_asr.recognizer import searching
from sonant_asr.recognizer.text import transcript

CASES = Path(__file__).resolve().parents[3] / "tests" / "nemo-cases"
CTC, HYBRID = CASES / "fastconformer_ctc_bpe.nemo", CASES / "fastconformer_hybrid_tdt_ctc_bpe.nemo"
SAID = "front center rear left"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`a.wav` with noise, of which a CTC model is not sure."""
    path = tmp_path_factory.mktemp("audio") / "noisy.wav"
    soundfile.write(path, noisy(CASES / "a.wav"), 16000)
    return path


@pytest.fixture(scope="module")
def hybrid() -> Any:
    return sonant.load(HYBRID)


def test_a_section_without_a_name_is_of_the_beam_search_of_the_head(hybrid: Any) -> None:
    chosen = {
        family: searching.choose(head, hybrid.tokenizer, {"beam_size": 3, "n_best": 2})
        for family, head in hybrid.decoders.items()
    }
    assert {family: type(search).__name__ for family, search in chosen.items()} == {"tdt": "TransducerBeam", "ctc": "CtcBeam"}
    assert {(search.config.beam_size, search.config.n_best) for search in chosen.values()} == {(3, 2)}
    named = searching.choose(hybrid.decoder, hybrid.tokenizer, {"name": "transducer_maes", "beam_size": 3})
    assert (type(named).__name__, named.config.beam_size) == ("TransducerMaes", 3)


def test_a_head_without_a_beam_search_is_asked_for_a_name(hybrid: Any) -> None:
    @frozen
    class Head:
        family: str = "acme"
        search: str = "acme/greedy"

    with pytest.raises(ConfigError, match=r"search=\{'beam_size': 8\} has no name, and this acme head names no beam search"):
        searching.choose(Head(), hybrid.tokenizer, {"beam_size": 8})


def test_a_beam_of_another_family_is_refused(hybrid: Any) -> None:
    with pytest.raises(ConfigError, match="reads rnnt and tdt heads, and this one is ctc: try 'ctc_greedy'"):
        hybrid.transcribe(CASES / "a.wav", decoder="ctc", search="transducer_beam")


def test_alternatives_are_the_next_best_texts(recording: Path) -> None:
    model = sonant.load(CTC)
    alone = model.transcribe(recording, search="ctc_beam")[0]
    found = model.transcribe(recording, search={"beam_size": 8, "n_best": 6}, timestamps=True)[0]
    assert alone.alternatives == ()
    assert (found.text, found.score) == (alone.text, pytest.approx(alone.score))
    assert found.words
    texts = [found.text, *(other.text for other in found.alternatives)]
    assert SAID in texts and len(texts) == len(set(texts)) > 3
    scores = [found.score, *(other.score for other in found.alternatives)]
    assert scores == sorted(scores, reverse=True)
    row = json.loads(found.to_json())
    assert row["score"] == found.score
    assert row["alternatives"] == [{"text": other.text, "score": other.score} for other in found.alternatives]


def test_one_text_spelt_by_several_tokens_is_one_alternative(hybrid: Any) -> None:
    tokenizer = hybrid.tokenizer
    ids = {piece: id for id, piece in enumerate(tokenizer.pieces(range(tokenizer.vocab_size)))}
    whole, first, rest = next((w, w[:n], w[n:]) for w in ids for n in range(2, len(w)) if w[:n] in ids and w[n:] in ids)
    spellings = [(ids[whole],), (ids[first], ids[rest]), (ids[first],), (ids[first], ids[rest], ids[first])]
    best, *others = (
        Hypothesis(tokens=tokens, starts=(0,) * len(tokens), ends=(1,) * len(tokens), score=-float(rank))
        for rank, tokens in enumerate(spellings)
    )
    found = transcript(evolve(best, alternatives=tuple(others)), tokenizer, "tdt", 0.08, None, hybrid.config)
    assert found.text == tokenizer.decode(spellings[1])
    assert found.alternatives == tuple(Alternative(tokenizer.decode(spellings[n]), -float(n)) for n in (2, 3))


@pytest.mark.parametrize(
    "options", [["--beam", "4"], ["--beam", "4", "--decoder", "ctc"], ["--beam", "4", "--search", "transducer_maes"]]
)
def test_transcribe_with_a_beam(options: list[str]) -> None:
    result = CliRunner().invoke(app, ["transcribe", str(CASES / "a.wav"), "--model", str(HYBRID), *options])
    assert (result.exit_code, result.stdout) == (0, f"{SAID}\n"), result.output


def test_alternatives_on_the_command_line(recording: Path) -> None:
    options = ["--beam", "8", "--n-best", "6", "--format", "jsonl"]
    result = CliRunner().invoke(app, ["transcribe", str(recording), "--model", str(CTC), *options])
    assert result.exit_code == 0, result.output
    expected = sonant.load(CTC).transcribe(recording, search={"beam_size": 8, "n_best": 6})[0]
    texts = [row["text"] for row in json.loads(result.stdout)["alternatives"]]
    assert texts == [other.text for other in expected.alternatives]
    assert SAID in texts


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--beam", "0"], "0 is not in the range"),
        (
            ["--beam", "4", "--search", "transducer_greedy"],
            "takes no beam_size; the beam search of this tdt head is 'transducer_beam'",
        ),
        (["--n-best", "5", "--beam", "4", "-f", "json"], "n_best 5 must be between 1 and beam_size"),
        (["--n-best", "2"], "--n-best: txt has no place for it; take --format json or jsonl"),
        (["--beam", "4", "--search", "ctc_beam"], "reads ctc heads, and this one is tdt"),
    ],
)
def test_beams_that_make_no_sense(options: list[str], reason: str) -> None:
    result = CliRunner().invoke(app, ["transcribe", str(CASES / "a.wav"), "--model", str(HYBRID), *options])
    assert result.exit_code != 0
    assert reason in result.output


def test_evaluate_says_with_which_beam(tmp_path: Path) -> None:
    manifest = tmp_path / "test.jsonl"
    manifest.write_text(json.dumps({"audio_filepath": str(CASES / "a.wav"), "text": SAID}) + "\n", "utf-8")
    command = ["evaluate", str(manifest), "--model", str(HYBRID), "--output", str(tmp_path / "out"), "--beam"]
    for size in ("2", "3"):
        result = CliRunner().invoke(app, [*command, size, "--overwrite"])
        assert result.exit_code == 0, result.output
        row = json.loads((tmp_path / "out" / "rows.jsonl").read_text("utf-8"))
        assert (row["beam"], row["text"]) == (int(size), SAID)
        assert json.loads((tmp_path / "out" / "scores.json").read_text("utf-8"))["beam"] == size
