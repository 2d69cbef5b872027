"""`sonant transcribe`: text alone on standard output, what fails by its name, and output that grows, resumes and shards."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import Result

from sonant.errors import CheckpointError

CASES = Path(__file__).resolve().parents[2] / "tests" / "nemo-cases"
BPE, HYBRID = CASES / "fastconformer_ctc_bpe.nemo", CASES / "fastconformer_hybrid_tdt_ctc_bpe.nemo"
A, B = CASES / "a.wav", CASES / "b.wav"
TEXT = {A: "front center rear left", B: "side right"}

Transcribe = Callable[..., Result]


@pytest.fixture
def transcribe(command: Any) -> Transcribe:
    """The command with a small model."""

    def run(*arguments: Any, checkpoint: Path | str = BPE, **options: Any) -> Result:
        return command("transcribe", *arguments, "--model", checkpoint, "--device", "cpu", **options)

    return run


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_text_alone_goes_to_standard_output(transcribe: Transcribe) -> None:
    result = transcribe(A, B)
    assert result.stdout == f"{TEXT[A]}\n{TEXT[B]}\n"
    assert result.stderr == ""


def test_every_format(transcribe: Transcribe) -> None:
    out = {f: transcribe(A, "--format", f).stdout for f in ("txt", "json", "jsonl", "srt", "vtt", "ctm")}
    assert out["txt"] == f"{TEXT[A]}\n"
    row = json.loads(out["jsonl"])
    assert row == json.loads(out["json"])
    assert out["jsonl"].count("\n") == 1 < out["json"].count("\n")
    seconds = soundfile.info(A).duration
    assert row == {"audio_filepath": str(A), "text": TEXT[A], "duration": pytest.approx(seconds, abs=0.001)}
    assert re.fullmatch(r"1\n00:00:0\d,\d{3} --> 00:00:0\d,\d{3}\n" + TEXT[A] + "\n", out["srt"])
    assert re.fullmatch(r"WEBVTT\n\n00:00:0\d\.\d{3} --> 00:00:0\d\.\d{3}\n" + TEXT[A] + "\n", out["vtt"])
    words = [line.split() for line in out["ctm"].splitlines()]
    assert [w[4] for w in words] == TEXT[A].split()
    assert all(w[:2] == [str(A), "1"] and 0 <= float(w[2]) <= seconds and float(w[3]) > 0 for w in words)


@pytest.mark.parametrize(
    ("level", "keys"), [("segment", ["segments"]), ("word", ["words", "segments"]), ("char", ["words", "segments", "chars"])]
)
def test_timestamps_down_to_a_level(level: str, keys: list[str], transcribe: Transcribe) -> None:
    row = json.loads(transcribe(A, "--timestamps", level, "--format", "jsonl").stdout)
    assert list(row)[3:] == keys
    for key in keys:
        times = [t for span in row[key] for t in (span["start"], span["end"])]
        assert times == sorted(times) and times[0] >= 0 and times[-1] <= row["duration"]
    spans = row.get("words", row["segments"])
    expected = "".join(f"{s['start']:.2f} {s['end']:.2f} {s['text']}\n" for s in spans)
    assert transcribe(A, "--timestamps", level).stdout == expected


def test_several_as_json_are_one_array(transcribe: Transcribe) -> None:
    assert [row["text"] for row in json.loads(transcribe(A, B, "--format", "json").stdout)] == [TEXT[A], TEXT[B]]


def test_the_suffix_of_the_output_chooses_the_format(tmp_path: Path, transcribe: Transcribe) -> None:
    for suffix in ("json", "srt", "vtt", "ctm", "jsonl", "txt"):
        result = transcribe(A, "--output", tmp_path / f"out.{suffix}")
        assert result.stdout == ""
        assert (tmp_path / f"out.{suffix}").read_text() == transcribe(A, "--format", suffix).stdout


def test_the_head_of_a_hybrid(transcribe: Transcribe) -> None:
    for head in ("ctc", "tdt"):
        assert transcribe(A, "--decoder", head, checkpoint=HYBRID).stdout == f"{TEXT[A]}\n"
    assert "decoder='rnnt': this model has tdt and ctc" in transcribe(A, "--decoder", "rnnt", checkpoint=HYBRID, status=1).stderr


def test_the_channel(tmp_path: Path, transcribe: Transcribe) -> None:
    speech, rate = soundfile.read(A)
    other = soundfile.read(B)[0]
    soundfile.write(tmp_path / "two.wav", np.stack([speech, np.pad(other, (0, len(speech) - len(other)))], axis=1), rate)
    for channel, recording in enumerate((A, B)):
        assert transcribe(tmp_path / "two.wav", "--channel", channel).stdout == f"{TEXT[recording]}\n"
    failed = transcribe(tmp_path / "two.wav", "--channel", 2, status=1)
    assert f"failed: {tmp_path}/two.wav: there is no channel 2" in failed.stderr and failed.stdout == ""


def test_the_model_from_the_environment(command: Any) -> None:
    assert command("transcribe", A, "--device", "cpu", SONANT_MODEL=str(BPE)).stdout == f"{TEXT[A]}\n"


def test_a_model_that_is_not_there_is_one_line(tmp_path: Path, command: Any) -> None:
    (tmp_path / "out.jsonl").write_text('{"audio_filepath": "old.wav", "text": ""}\n')
    for arguments in ([], ["--output", tmp_path / "out.jsonl", "--overwrite"]):
        assert "Did you mean 'parakeet" in command.error("transcribe", A, "--model", "parakeet-tdt-9b", *arguments)
    assert rows(tmp_path / "out.jsonl") == [{"audio_filepath": "old.wav", "text": ""}]


def test_an_error_shows_its_traceback_when_asked_for_more(command: Any) -> None:
    with pytest.raises(CheckpointError):
        command("-v", "transcribe", A, "--model", "none.nemo")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--shard", "0/2"),
        ("--shard", "3/2"),
        ("--shard", "2"),
        ("--shard", "²/3"),
        ("--format", "docx"),
        ("--batch-size", "0"),
        ("--threads", "0"),
        ("--channel", "-1"),
        ("--timestamps", "phone"),
        ("--registry", "none.yaml"),
    ],
)
def test_options_that_make_no_sense(arguments: tuple[str, str], transcribe: Transcribe) -> None:
    result = transcribe(A, *arguments, status=2)
    assert arguments[0] in result.stderr and result.stdout == ""


@pytest.mark.parametrize(("option", "value"), [("--batch-seconds", "0"), ("--dtype", "int4"), ("--device", "warp")])
def test_values_that_make_no_sense(option: str, value: str, command: Any) -> None:
    (line,) = command("transcribe", A, "--model", BPE, option, value, status=1).stderr.splitlines()
    assert line.startswith("Error: ") and (option.strip("-").split("-")[-1] in line)


# Failures among recordings -----------------------------------------------------------------------------------------------


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Good recordings in every form among bad ones."""
    folder = tmp_path / "mixed"
    (folder / "deep").mkdir(parents=True)
    speech, rate = soundfile.read(A)
    shutil.copy(A, folder / "good.wav")
    soundfile.write(folder / "deep" / "good.flac", speech, rate)
    soundfile.write(folder / "eight.wav", np.tile(soundfile.read(B)[0][:, None], 8), rate)
    soundfile.write(folder / "one_sample.wav", speech[:1], rate)
    soundfile.write(folder / "nan.wav", np.where(np.arange(len(speech)) % 7 == 0, np.nan, speech), rate, subtype="FLOAT")
    (folder / "cut.wav").write_bytes(A.read_bytes()[:20000])
    (folder / "deep" / "cut.flac").write_bytes((folder / "deep" / "good.flac").read_bytes()[:9000])
    (folder / "empty.wav").touch()
    soundfile.write(folder / "zero.wav", speech[:0], rate)
    (folder / "text.mp3").write_text("this is no recording")
    return folder


GOOD = {"good.wav": TEXT[A], "deep/good.flac": TEXT[A], "eight.wav": TEXT[B]}
BAD = {
    "cut.wav": "truncated",
    "deep/cut.flac": "damaged",
    "empty.wav": "the file is empty",
    "nan.wav": "not finite",
    "text.mp3": "not readable as audio",
    "zero.wav": "has no samples",
}


@pytest.mark.parametrize("batch_size", [1, 16])
def test_bad_recordings_among_good_ones(batch_size: int, mixed: Path, tmp_path: Path, transcribe: Transcribe) -> None:
    result = transcribe(mixed, tmp_path / "none.wav", "--batch-size", batch_size, "--format", "jsonl", status=1)
    found = {
        Path(row["audio_filepath"]).relative_to(mixed).as_posix(): row["text"]
        for row in map(json.loads, result.stdout.splitlines())
    }
    assert found.keys() == {*GOOD, "one_sample.wav"}
    assert {name: found[name] for name in GOOD} == GOOD
    failed = [line for line in result.stderr.splitlines() if line.startswith("failed: ")]
    assert len(failed) == len(BAD) + 1
    for name, fault in BAD.items():
        assert any(line.startswith(f"failed: {mixed}/{name}: ") and fault in line for line in failed), name
    assert f"failed: {tmp_path}/none.wav: there is no such file" in failed
    assert result.stderr.splitlines()[-1] == f"{len(failed)} of the recordings failed; the others are done"
    assert "Traceback" not in result.stderr


def test_a_run_after_failures_tries_only_those_again(mixed: Path, tmp_path: Path, transcribe: Transcribe) -> None:
    out = tmp_path / "out.jsonl"
    transcribe(mixed, "--output", out, status=1)
    assert len(rows(out)) == 4
    shutil.copy(B, mixed / "empty.wav")
    again = transcribe(mixed, "--output", out, status=1)
    assert "4 of 10 recordings are already in" in again.stderr
    assert again.stderr.count("failed: ") == len(BAD) - 1
    assert rows(out)[-1]["text"] == TEXT[B] and len(rows(out)) == 5


@pytest.mark.parametrize("source", ["missing.wav", "folder", "bad.jsonl"])
def test_an_input_that_holds_nothing_does_not_stop_the_others(source: str, tmp_path: Path, transcribe: Transcribe) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "bad.jsonl").write_text('{"audio_filepath": "a.wav"}\nnonsense\n')
    result = transcribe(tmp_path / source, A, status=1)
    assert result.stdout == f"{TEXT[A]}\n"
    assert f"failed: {tmp_path / source}: " in result.stderr
    assert source != "bad.jsonl" or "bad.jsonl:2: not a manifest row" in result.stderr
    alone = transcribe(tmp_path / source, status=1)
    assert alone.stdout == "" and f"failed: {tmp_path / source}: " in alone.stderr


def test_names_in_a_manifest_do_not_reach_the_terminal_raw(tmp_path: Path, transcribe: Transcribe) -> None:
    (tmp_path / "bad.jsonl").write_text(json.dumps({"audio_filepath": "\x1b]0;owned\x07.wav"}))
    result = transcribe(tmp_path / "bad.jsonl", status=1)
    assert "\\x1b]0;owned\\x07.wav: there is no such file" in result.stderr
    assert "\x1b" not in result.stderr


# Output that grows -------------------------------------------------------------------------------------------------------


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A manifest of nine: whole recordings and pieces."""
    for n in range(3):
        shutil.copy([A, B][n % 2], tmp_path / f"{n}.wav")
    found: list[dict[str, Any]] = [{"audio_filepath": f"{n}.wav", "text": "?"} for n in range(3)]
    found += [{"audio_filepath": f"{n}.wav", "offset": offset, "duration": 0.6} for n in range(3) for offset in (0.0, 0.6)]
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


def identity(row: dict[str, Any]) -> tuple[str, float | None]:
    return row["audio_filepath"], row.get("offset")


def test_a_run_that_was_killed_resumes(corpus: Path, tmp_path: Path, transcribe: Transcribe) -> None:
    out = tmp_path / "out.jsonl"
    assert transcribe(corpus, "--output", out).stdout == ""
    whole = out.read_text("utf-8")
    assert [identity(row) for row in rows(out)] == [identity(row) for row in rows(corpus)]
    assert [row["text"] for row in rows(out)[:3]] == [TEXT[A], TEXT[B], TEXT[A]]
    lines = whole.splitlines(keepends=True)
    out.write_text("".join(lines[:4]) + lines[4][:25], "utf-8")  # killed while it wrote the fifth
    again = transcribe(corpus, "--output", out)
    assert "4 of 9 recordings are already in" in again.stderr
    assert out.read_text("utf-8") == whole
    third = transcribe(corpus, "--output", out, checkpoint="never opened")
    assert "9 of 9 recordings are already in" in third.stderr
    assert out.read_text("utf-8") == whole


def test_overwrite_does_all_again(corpus: Path, tmp_path: Path, transcribe: Transcribe) -> None:
    for output in ("out.jsonl", "folder", "out.txt"):
        for _ in range(2):
            result = transcribe(corpus, "--output", tmp_path / output, "--overwrite")
            assert "already" not in result.stderr
    assert len(rows(tmp_path / "out.jsonl")) == 9
    texts = {p: p.stat().st_mtime_ns for p in (tmp_path / "folder").iterdir()}
    assert len(texts) == 9
    transcribe(corpus, "--output", tmp_path / "folder")
    assert {p: p.stat().st_mtime_ns for p in texts} == texts
    transcribe(corpus, "--output", tmp_path / "folder", "--overwrite")
    assert not {p for p in texts if p.stat().st_mtime_ns == texts[p]}


@pytest.mark.parametrize("output", ["out.jsonl", "folder"])
def test_shards_together_are_the_whole_and_apart(output: str, corpus: Path, tmp_path: Path, transcribe: Transcribe) -> None:
    transcribe(corpus, "--output", tmp_path / "whole" / output)
    for k in (1, 2, 3, 4):
        if k < 3:
            transcribe(corpus, "--output", tmp_path / "parts" / output, "--shard", f"{k}/4")
        else:
            transcribe(corpus, "--output", tmp_path / "parts" / output, RANK=str(k - 1), WORLD_SIZE="4")
    if output == "folder":
        written = {name: (tmp_path / "parts" / name).read_text() for name in files(tmp_path / "parts")}
        assert written == {name: (tmp_path / "whole" / name).read_text() for name in files(tmp_path / "whole")}
        assert len(written) == 9
        return
    assert files(tmp_path / "parts") == [f"out.{k}-of-4.jsonl" for k in (1, 2, 3, 4)]
    parts = [rows(tmp_path / "parts" / name) for name in files(tmp_path / "parts")]
    assert [len(part) for part in parts] == [3, 2, 2, 2]
    together = [row for part in parts for row in part]
    assert sorted(together, key=json.dumps) == sorted(rows(tmp_path / "whole" / output), key=json.dumps)


@pytest.mark.parametrize(("rank", "world"), [("4", "4"), ("x", "4"), ("0", "-1"), ("-1", "2")])
def test_a_launcher_that_makes_no_sense(rank: str, world: str, transcribe: Transcribe) -> None:
    result = transcribe(A, RANK=rank, WORLD_SIZE=world, status=2)
    assert f"RANK='{rank}' and WORLD_SIZE='{world}'" in result.stderr


def test_an_output_of_something_else_is_left_alone(tmp_path: Path, transcribe: Transcribe) -> None:
    notes = tmp_path / "notes.jsonl"
    notes.write_text("my notes")
    assert (
        "is not a result row, so this run will not append to it; name another --output"
        in transcribe(A, "-o", notes, status=1).stderr
    )
    assert notes.read_text() == "my notes"
    for output in (notes / "out", notes / "out.txt", notes / "out.jsonl"):
        assert str(notes) in transcribe(A, "-o", output, status=1).stderr
    assert files(tmp_path) == ["notes.jsonl"]


def test_subtitles_of_several_without_a_folder_are_refused_before_anything_is_opened(command: Any) -> None:
    assert "--format srt describes one recording, and there are 2: name a folder with --output FOLDER" in command.error(
        "transcribe", A, B, "--format", "srt", "--model", "never opened"
    )
