"""`sonant evaluate`: scores of models and of hypotheses, runs that resume, what fails by its name."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from click.testing import CliRunner, Result

from sonant.cli.main import app

CASES = Path(__file__).resolve().parents[3] / "tests" / "nemo-cases"
MODEL, HYBRID = CASES / "fastconformer_tdt_bpe.nemo", CASES / "fastconformer_hybrid_tdt_ctc_bpe.nemo"
RIGHT = {"a.wav": "front center rear left", "b.wav": "side right"}

Evaluate = Callable[..., Result]


@pytest.fixture
def evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Evaluate]:
    """The command in a folder with the two recordings; the process is left as it was."""
    for name in RIGHT:
        shutil.copy(CASES / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SONANT_MODEL", raising=False)
    handlers, level, threads = logging.root.handlers[:], logging.root.level, torch.get_num_threads()

    def run(*arguments: Any, status: int = 0, **environment: str) -> Result:
        device = () if "--hypotheses" in arguments else ("--device", "cpu")
        result = CliRunner().invoke(app, ["evaluate", *map(str, arguments), *device], env=environment, prog_name="sonant")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == status, result.output
        return result

    yield run
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    torch.set_num_threads(threads)


def write(name: str, *rows: dict[str, Any] | str) -> Path:
    path = Path(name)
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def said(name: str, text: str, **more: Any) -> dict[str, Any]:
    return {"audio_filepath": name, "text": text, **more}


def manifest() -> Path:
    """The first with a word too many, the second with one that is another; and how they are written does not count."""
    return write("test.jsonl", said("a.wav", "Front, center: rear left side"), said("b.wav", "side LEFT", speaker="anna"))


def lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]


def scores(folder: str) -> dict[str, Any]:
    return dict(json.loads(Path(folder, "scores.json").read_text("utf-8")))


def test_a_model_is_scored(evaluate: Evaluate) -> None:
    result = evaluate(manifest(), "--model", MODEL)
    facts = dict(re.findall(r"^(\w[\w -]*?)  +(\S.*)$", result.stdout.partition("\n\n")[0], re.MULTILINE))
    assert facts.pop("real-time factor") is not None
    assert facts == {"manifest": "test.jsonl", "model": str(MODEL), "normalization": "basic", "utterances": "2", "audio": "4.3 s"}
    assert re.search(r"^words +28\.57 % +2 +1 +1 +0 +7$", result.stdout, re.MULTILINE)
    assert re.search(r"^characters +25\.00 % +9 +\d+ +\d+ +\d+ +36$", result.stdout, re.MULTILINE)
    worst = result.stdout.partition("The worst utterances:\n")[2]
    assert worst == (
        "50.00 %  b.wav\n  said   side left\n  heard  side right\n"
        "20.00 %  a.wav\n  said   front center rear left side\n  heard  front center rear left\n"
    )
    assert result.stderr == ""
    assert sorted(os.listdir()) == ["a.wav", "b.wav", "test.jsonl"]


def test_what_is_saved_is_what_is_printed(evaluate: Evaluate) -> None:
    result = evaluate(manifest(), "--model", MODEL, "--output", "out", "--json")
    assert sorted(os.listdir("out")) == ["report.html", "rows.jsonl", "scores.json"]
    assert result.stderr == f"wrote {Path('out', 'report.html')}\n"
    saved = scores("out")
    assert json.loads(result.stdout) == saved
    assert saved["words"] == {
        "error_rate": 0.285714,
        "errors": 2,
        "substitutions": 1,
        "deletions": 1,
        "insertions": 0,
        "hits": 5,
        "reference": 7,
        "hypothesis": 6,
    }
    seconds = [soundfile.info(name).duration for name in RIGHT]
    assert saved["audio_seconds"] == pytest.approx(sum(seconds), abs=0.002)
    assert [row["duration"] for row in saved["rows"]] == pytest.approx(seconds, abs=0.001)
    assert [(row["audio_filepath"], row["hypothesis"]) for row in saved["rows"]] == list(RIGHT.items())
    assert [(row["audio_filepath"], row["text"], row["model"]) for row in lines("out/rows.jsonl")] == [
        (name, text, str(MODEL)) for name, text in RIGHT.items()
    ]
    computing = sum(row["elapsed"] for row in lines("out/rows.jsonl"))
    assert computing > 0
    assert saved["real_time_factor"] == pytest.approx(computing / sum(seconds), rel=1e-2)


def test_the_report_has_both_texts_and_the_audio(evaluate: Evaluate) -> None:
    evaluate(manifest(), "--model", MODEL, "--output", "out")
    page = Path("out/report.html").read_text("utf-8")
    assert re.findall(r'<audio[^>]* src="([^"]*)"', page) == ["../b.wav", "../a.wav"]
    assert f"model <b>{MODEL}</b>" in page and "Word error rate by speaker" in page
    assert '<span class="step sub"><span>left</span><span>right</span><abbr title="substitution">S</abbr></span>' in page
    evaluate(manifest(), "--model", MODEL, "--output", "out", "--embed-audio")
    sources = re.findall(r'<audio[^>]* src="([^"]*)"', Path("out/report.html").read_text("utf-8"))
    assert [source[:28] for source in sources] == ["data:audio/flac;base64,ZkxhQ"] * 2  # "fLaC"


def test_a_second_run_does_only_what_is_missing(evaluate: Evaluate) -> None:
    """What is there is taken as it is, half a row of a killed run is not there; in the end all are scored."""
    arguments = [manifest(), "--model", MODEL, "--output", "out"]
    evaluate(*arguments)
    first, second = Path("out/rows.jsonl").read_text("utf-8").splitlines(keepends=True)
    marked = first.replace("front center", "marked")
    Path("out/rows.jsonl").write_text(marked + second[:20], "utf-8")
    again = evaluate(*arguments)
    assert f"1 of 2 recordings are already in {Path('out', 'rows.jsonl')}; --overwrite does them again\n" in again.stderr
    assert [row["text"] for row in lines("out/rows.jsonl")] == ["marked rear left", "side right"]
    assert [row["hypothesis"] for row in scores("out")["rows"]] == ["marked rear left", "side right"]
    before = scores("out")
    assert "2 of 2 recordings" in evaluate(*arguments, "--normalize", "none").stderr
    after = scores("out")
    assert after["real_time_factor"] == before["real_time_factor"]
    assert [row["reference"] for row in after["rows"]] == ["Front, center: rear left side", "side LEFT"]
    assert "already" not in evaluate(*arguments, "--overwrite").stderr
    assert [row["text"] for row in lines("out/rows.jsonl")] == list(RIGHT.values())


def test_rows_of_another_model_are_not_mixed_in(evaluate: Evaluate) -> None:
    evaluate(manifest(), "--model", HYBRID, "--output", "out")
    before = Path("out/rows.jsonl").read_bytes()
    for other in (["--model", MODEL], ["--model", HYBRID, "--decoder", "ctc"], ["--model", HYBRID, "--channel", 0]):
        message = evaluate("test.jsonl", *other, "--output", "out", status=1).stderr
        assert "name another --output, or replace what is there with --overwrite" in message
        assert f"a.wav was recognized by model {HYBRID}, and this run is {' '.join(map(str, other[:2])).lstrip('-')}" in message
    assert Path("out/rows.jsonl").read_bytes() == before
    evaluate("test.jsonl", "--model", HYBRID, "--decoder", "ctc", "--output", "out", "--overwrite")
    assert [row["decoder"] for row in lines("out/rows.jsonl")] == ["ctc", "ctc"]
    assert scores("out")["decoder"] == "ctc"


def test_pieces_and_repeated_rows(evaluate: Evaluate) -> None:
    """A piece is another thing than the whole, and what is named twice is recognized once and counted twice."""
    piece = said("a.wav", "front center", offset=0.0, duration=1.3)
    write("test.jsonl", said("a.wav", RIGHT["a.wav"]), piece, "", said("a.wav", "another text"), piece)
    evaluate("test.jsonl", "--model", MODEL, "--output", "out")
    assert [(row["text"], row.get("offset")) for row in lines("out/rows.jsonl")] == [
        (RIGHT["a.wav"], None),
        ("front center", 0.0),
    ]
    saved = scores("out")
    assert [row["hypothesis"] for row in saved["rows"]] == [RIGHT["a.wav"], "front center", RIGHT["a.wav"], "front center"]
    assert [row["words"]["errors"] for row in saved["rows"]] == [0, 0, 4, 0]
    assert saved["audio_seconds"] == pytest.approx(2 * 1.3 + 2 * soundfile.info("a.wav").duration, abs=0.01)
    assert saved["real_time_factor"] == pytest.approx(
        sum(row["elapsed"] for row in lines("out/rows.jsonl")) / (saved["audio_seconds"] / 2), rel=1e-3
    )


def test_one_place_with_two_ends_is_refused(evaluate: Evaluate) -> None:
    write("test.jsonl", said("a.wav", "x", offset=0, duration=1), "", said("a.wav", "x", offset=0, duration=2))
    assert (
        "test.jsonl:3: begins where line 1 does, and ends elsewhere" in evaluate("test.jsonl", "--model", MODEL, status=1).stderr
    )


@pytest.mark.parametrize("output", [[], ["--output", "out"]])
def test_recordings_that_fail_are_named_and_not_counted(output: list[str], evaluate: Evaluate) -> None:
    write("test.jsonl", said("gone.wav", "many words that were not heard"), said("b.wav", "side right"), said("test.jsonl", "x"))
    result = evaluate("test.jsonl", "--model", MODEL, *output, status=1)
    told = result.stderr.splitlines()[1:] if output else result.stderr.splitlines()
    assert told[0] == "failed: gone.wav: there is no such file"
    assert told[1].startswith("failed: test.jsonl: not readable as audio")
    assert told[2:] == ["2 of the recordings failed and are not counted"]
    assert re.search(r"^words +0\.00 % +0 +0 +0 +0 +2$", result.stdout, re.MULTILINE)
    assert "worst" not in result.stdout
    if output:
        assert [f["audio_filepath"] for f in scores("out")["failed"]] == ["gone.wav", "test.jsonl"]
        assert "<li>gone.wav: there is no such file</li>" in Path("out/report.html").read_text("utf-8")
        write("test.jsonl", said("gone.wav", "side right"))
        shutil.copy("b.wav", "gone.wav")
        evaluate("test.jsonl", "--model", MODEL, *output)
        assert [row["audio_filepath"] for row in lines("out/rows.jsonl")] == ["b.wav", "gone.wav"]


def test_the_worst_that_are_printed(evaluate: Evaluate) -> None:
    write("hyp.jsonl", *({"audio_filepath": name, "text": "side right"} for name in RIGHT))
    manifest()
    printed = {n: evaluate("test.jsonl", "--hypotheses", "hyp.jsonl", "--worst", n).stdout.count("  said") for n in (0, 1, 2, 9)}
    assert printed == {0: 0, 1: 1, 2: 2, 9: 2}


def test_by_characters(evaluate: Evaluate) -> None:
    write("test.jsonl", said("1.wav", "今天天气很好"), said("2.wav", "我们去公园", offset=1.5, duration=2))
    write("hyp.jsonl", said("1.wav", "今天天器很好"), said("2.wav", "我去公圆", offset=1.5))
    result = evaluate("test.jsonl", "--hypotheses", "hyp.jsonl", "--unit", "char", "--output", "out")
    assert re.search(r"^characters +27\.27 % +3 +2 +1 +0 +11$", result.stdout, re.MULTILINE)
    assert "40.00 %  2.wav from 1.5 s\n  said   我们去公园\n" in result.stdout
    page = Path("out/report.html").read_text("utf-8")
    assert "Character error rate by duration" in page and "<span>气</span><span>器</span>" in page
    assert "<audio" not in page  # there are no such files


# Hypotheses


def test_hypotheses_of_transcribe_are_scored_without_a_model(evaluate: Evaluate) -> None:
    """Also with rows that the manifest does not have, in any order."""
    write(
        "test.jsonl",
        said("b.wav", "side right"),
        said("a.wav", "front center", offset=0, duration=1.3),
        said("a.wav", RIGHT["a.wav"]),
    )
    done = CliRunner().invoke(app, ["transcribe", "test.jsonl", "a.wav", "-m", str(MODEL), "-o", "hyp.jsonl", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    rows = lines("hyp.jsonl")
    write("hyp.jsonl", said("other.wav", "x"), *reversed(rows))
    saved = json.loads(evaluate("test.jsonl", "--hypotheses", "hyp.jsonl", "--json").stdout)
    assert saved["words"]["errors"] == 0 and saved["utterances"] == 3
    assert saved["real_time_factor"] is None and saved["hypotheses"] == "hyp.jsonl" and "model" not in saved


def test_hypotheses_of_an_evaluation_are_scored_alike(evaluate: Evaluate) -> None:
    evaluate(manifest(), "--model", MODEL, "--output", "out")
    evaluate("test.jsonl", "--hypotheses", "out/rows.jsonl", "--output", "again")
    ours, theirs = scores("out"), scores("again")
    assert ours.pop("model") and theirs.pop("hypotheses")
    assert ours == theirs
    assert not Path("again/rows.jsonl").exists()


def test_hypotheses_beside_the_references_as_nemo_writes_them(evaluate: Evaluate) -> None:
    path = write("both.jsonl", said("a.wav", "one two three four", duration=2.5, pred_text="one too three"))
    saved = json.loads(evaluate(path, "--hypotheses", path, "--json").stdout)
    assert saved["words"]["error_rate"] == 0.5 and saved["audio_seconds"] == 2.5


def test_hypotheses_that_are_missing_are_failures(evaluate: Evaluate) -> None:
    write("hyp.jsonl", said("b.wav", "side right"), said("a.wav", "front", offset=0.5))
    write("test.jsonl", said("b.wav", "side right"), said("a.wav", "front center"), said("a.wav", "front", offset=1, duration=1))
    result = evaluate("test.jsonl", "--hypotheses", "hyp.jsonl", status=1)
    assert result.stderr.splitlines() == [
        "failed: a.wav: no hypothesis for it as a whole in hyp.jsonl",
        "failed: a.wav: no hypothesis for it from 1.0 s on in hyp.jsonl",
        "2 of the recordings failed and are not counted",
    ]
    write("test.jsonl", said("./b.wav", "side right"))
    message = evaluate("test.jsonl", "--hypotheses", "hyp.jsonl", status=1).stderr
    assert "hyp.jsonl has no hypothesis for any row" in message and "'b.wav', 'a.wav'; in the manifest: './b.wav'" in message


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{", "hyp.jsonl:2: not a row of hypotheses"),
        ('["a.wav"]', "hyp.jsonl:2: not a row of hypotheses"),
        ({"audio_filepath": "a.wav"}, "hyp.jsonl:2: not a row of hypotheses (KeyError('text'))"),
        (said("a.wav", None), "audio_filepath and text are strings"),  # type: ignore[arg-type]
        (said("a.wav", "x", duration="long"), "hyp.jsonl:2: not a row of hypotheses"),
        (said("a.wav", "x", offset=-1), "-1 seconds"),
        (said("b.wav", "left side"), "hyp.jsonl:2: another text for b.wav than a line before"),
    ],
)
def test_hypotheses_that_cannot_be_read(row: Any, reason: str, evaluate: Evaluate) -> None:
    write("hyp.jsonl", said("b.wav", "side right"), row)
    assert reason in evaluate(manifest(), "--hypotheses", "hyp.jsonl", status=1).stderr


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([said("b.wav", "x"), "", {"audio_filepath": "a.wav"}], 'test.jsonl:3: no "text"'),
        ([said("b.wav", ["x"])], 'test.jsonl:1: no "text"'),  # type: ignore[arg-type]
        ([said("b.wav", "x"), "{"], "test.jsonl:2: not a manifest row"),
        ([], "test.jsonl has no rows"),
    ],
)
def test_manifests_that_cannot_be_scored(rows: list[Any], reason: str, evaluate: Evaluate) -> None:
    """Said before a model is opened: this one is not there."""
    write("test.jsonl", *rows)
    assert reason in evaluate("test.jsonl", "--model", "none.nemo", status=1).stderr


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (["a.wav", "--model", "x"], 1, "a.wav is not a manifest: name a .jsonl file"),
        (["none.jsonl"], 2, "'none.jsonl' does not exist"),
        (["test.jsonl", "--hypotheses", "test.jsonl", "--model", "x"], 2, "--hypotheses is scored without a model"),
        (["test.jsonl", "--hypotheses", "none.jsonl"], 2, "'none.jsonl' does not exist"),
        (["test.jsonl", "--model", "x", "--embed-audio"], 2, "name its folder with --output"),
        (["test.jsonl", "--model", "x", "--output", "a.wav"], 1, "--output a.wav is a file; name a folder"),
        (["test.jsonl", "--normalize", "english"], 2, "'english' is not one of 'basic', 'none'"),
        (["test.jsonl", "--model", "none.nemo"], 1, "none.nemo"),
    ],
)
def test_calls_that_make_no_sense(arguments: list[str], status: int, reason: str, evaluate: Evaluate) -> None:
    manifest()
    result = evaluate(*arguments, status=status)
    assert reason in " ".join(result.stderr.split()) and result.stdout == ""


def test_the_model_from_the_environment(evaluate: Evaluate) -> None:
    assert evaluate(manifest(), "--json", SONANT_MODEL=str(MODEL)).stderr == ""


def test_hostile_text_does_not_steer_the_terminal(evaluate: Evaluate) -> None:
    write("test.jsonl", said("\x1b[2Jx.wav", "said \x1b[31m \u202e"), said("gone.wav", ""))
    write("hyp.jsonl", said("\x1b[2Jx.wav", "heard \x07"))
    result = evaluate("test.jsonl", "--hypotheses", "hyp.jsonl", "--normalize", "none", status=1)
    assert not [c for c in result.output if not c.isprintable() and c != "\n"]


def test_without_jiwer_nothing_is_recognized_first(evaluate: Evaluate, tmp_path: Path) -> None:
    """In a process of its own, whose jiwer cannot be imported; the other commands work there."""
    code = "import sys; sys.modules['jiwer'] = None; from sonant.cli.main import main; main()"
    command = [sys.executable, "-c", code, "evaluate", str(manifest()), "--model", "none.nemo"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == "Error: error rates need jiwer, which is not installed: pip install 'sonant-asr[evaluate]'\n"
    helped = subprocess.run([sys.executable, "-c", code, "evaluate", "--help"], capture_output=True, text=True, check=True)
    assert "Count the errors of a model" in helped.stdout
