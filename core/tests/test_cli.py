"""The command line: text alone on standard output, one clear line for what is wrong, exit status 1 for any failure."""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import click
import numpy as np
import pytest
import soundfile
import torch
import yaml
from click.testing import CliRunner, Result

import sonant
from sonant import config, registry
from sonant.cli import inspect, model
from sonant.cli.main import App, app
from sonant.nemo.archive import CONFIG, WEIGHTS, NemoArchive, write_archive

CASES = Path(__file__).resolve().parents[2] / "tests" / "nemo-cases"
BPE, HYBRID = CASES / "fastconformer_ctc_bpe.nemo", CASES / "fastconformer_hybrid_tdt_ctc_bpe.nemo"
A, B = CASES / "a.wav", CASES / "b.wav"
TEXT = {A: "front center rear left", B: "side right"}
INSTALLED = list(registry.current())


@pytest.fixture(autouse=True)
def process_state() -> Iterator[None]:
    """What a command sets for its whole process is set back."""
    handlers, level, threads = logging.root.handlers[:], logging.root.level, torch.get_num_threads()
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    torch.set_num_threads(threads)


def sonant_command(*arguments: Any, status: int = 0, **environment: str) -> Result:
    """Run it in this process; anything that would be a traceback fails the test."""
    command = App("sonant", callback=app.callback, params=app.params)
    inspect.add_to(command)
    model.add_to(command)
    result = CliRunner().invoke(command, [str(a) for a in arguments], env=environment, prog_name="sonant")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result


def error_of(*arguments: Any, status: int = 1, **environment: str) -> str:
    """The one line on standard error."""
    result = sonant_command(*arguments, status=status, **environment)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line.removeprefix("Error: ")


def transcribe(*arguments: Any, checkpoint: Path | str = BPE, **options: Any) -> Result:
    return sonant_command("transcribe", *arguments, "--model", checkpoint, "--device", "cpu", **options)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


# Looking -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("component", INSTALLED, ids=lambda c: f"{c.spec.kind}-{c.spec.name}")
def test_describe_tells_every_field_of_every_component(component: Any) -> None:
    spec = component.spec
    text = sonant_command("describe", spec.kind, spec.name).stdout
    value = json.loads(sonant_command("describe", spec.kind, spec.name, "--json").stdout)
    assert text.startswith(f"{spec.kind} {spec.name} ({component.plugin.label})\n{spec.doc}\n")
    assert (value["kind"], value["name"], value["plugin"], value["doc"]) == (
        spec.kind,
        spec.name,
        component.plugin.label,
        spec.doc,
    )
    fields = attrs.fields(config.config_class(component))
    assert [f["name"] for f in value["fields"]] == [f.name for f in fields]
    for field, told in zip(fields, value["fields"], strict=True):
        assert told["help"] == field.metadata["help"] and told["help"]
        assert told["type"] and told["default"]
        assert (told["default"] == "required") == (field.default is attrs.NOTHING)
        (line,) = [one for one in text.splitlines() if one.split(" ")[0] == field.name and one.endswith(told["help"])]
        assert told["default"] in line
    assert [p["key"] for p in value["parts"]] == [p.key for p in spec.parts]
    assert all(re.search(rf"^{p.key} +{p.kind}.* {re.escape(p.help)}$", text, re.MULTILINE) for p in spec.parts)


def test_describe_of_what_is_not_there() -> None:
    text = error_of("describe", "encoder", "fastconfomer")
    assert text.startswith("no encoder named 'fastconfomer'. Did you mean 'fastconformer'")
    assert "no kind named 'encoders'" in error_of("describe", "encoders", "fastconformer")
    assert "There is a encoder of that name" in error_of("describe", "decoder", "fastconformer")


def test_components_lists_what_a_config_can_name() -> None:
    found = json.loads(sonant_command("components", "--json").stdout)
    assert {(row["kind"], row["name"]) for row in found} == {(r.spec.kind, r.spec.name) for r in INSTALLED}
    encoders = sonant_command("components", "encoder").stdout.splitlines()
    assert [line.split()[:3] for line in encoders] == [
        ["encoder", r.spec.name, r.plugin.distribution] for r in INSTALLED if r.spec.kind == "encoder"
    ]
    assert len(sonant_command("components").stdout.splitlines()) == len(INSTALLED)
    assert "no kind named 'encoders'. Did you mean 'encoder'?" in error_of("components", "encoders")


def test_plugins_lists_who_provides_them() -> None:
    value = json.loads(sonant_command("plugins", "--json").stdout)
    assert value["conflicts"] == value["checks"] == []
    by_name = {row["distribution"]: row for row in value["plugins"]}
    assert {"sonant-asr", "sonant-encoders", "sonant-features"} <= by_name.keys()
    for row in by_name.values():
        assert (row["status"], row["error"]) == ("ok", None)
        assert row["components"] == [f"{r.spec.kind}/{r.spec.name}" for r in row_of(row["distribution"])]
    lines = sonant_command("plugins", "sonant-features").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["sonant-features"]
    assert "no installed plugin is called sonant-unheard" in error_of("plugins", "sonant-unheard")


def row_of(distribution: str) -> Sequence[Any]:
    (plugin,) = {id(r.plugin): r.plugin for r in INSTALLED if r.plugin.distribution == distribution}.values()
    return [next(r for r in INSTALLED if r.spec is spec) for spec in plugin.components]


def test_help_names_every_command() -> None:
    text = sonant_command("--help").stdout
    for command in ("plugins", "components", "models", "describe", "config", "convert", "transcribe"):
        assert re.search(rf"^  {command} ", text, re.MULTILINE)
        assert sonant_command(command, "--help").stdout.startswith(f"Usage: sonant {command}")
    assert sonant.__version__ in sonant_command("--version").stdout
    assert "No such command 'transcribbe'" in sonant_command("transcribbe", status=2).stderr


MODEL = {
    "task": "asr",
    "preprocessor": "log_mel",
    "tokenizer": {"name": "char", "labels": [" ", "a", "ä"]},
    "encoder": {"name": "fastconformer", "d_model": 16, "n_heads": 2, "n_layers": "${seed}", "subsampling_conv_channels": 8},
    "decoder": "ctc",
    "seed": 1,
}


def test_config_show_prints_the_filled_config(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(MODEL))
    text = sonant_command("config", "show", tmp_path / "m.yaml", "encoder.n_heads=4", "encoder.dropout=0.25").stdout
    shown = yaml.safe_load(text)
    assert (shown["encoder"]["n_heads"], shown["encoder"]["dropout"], shown["encoder"]["n_layers"]) == (4, 0.25, 1)
    assert "ä" in text and shown["encoder"]["subsampling_factor"] == 8 and shown["preprocessor"]["features"]
    fields = attrs.fields(config.config_class(registry.current().get("encoder", "fastconformer")))
    assert list(shown["encoder"]) == ["name", *(f.name for f in fields)]
    (tmp_path / "again.yaml").write_text(text)
    assert sonant_command("config", "show", tmp_path / "again.yaml").stdout == text


def test_config_show_says_where_the_fault_is(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(
        "task: asr\npreprocessor: log_mel\nencoder:\n  name: fastconformer\n  d_modle: 3\n"
        "tokenizer: {name: char, labels: [a]}\ndecoder: ctc\n"
    )
    assert error_of("config", "show", path).startswith(f"{path}:5: encoder.d_modle: ")
    assert "not of the form section.key=value" in error_of("config", "show", path, "n_layers")


# Converting --------------------------------------------------------------------------------------------------------------


def state_of(path: Path) -> dict[str, torch.Tensor]:
    with NemoArchive(path) as archive:
        return archive.state()


def test_convert_both_ways_and_say_what_was_left_behind(tmp_path: Path) -> None:
    result = sonant_command("convert", BPE, tmp_path / "folder")
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert {"dropped train_ds", "dropped encoder.dropout_att", "dropped decoding"} <= set(lines)
    assert re.fullmatch(rf"wrote {tmp_path}/folder: [\d,]{{6,7}} parameters, 0\.\d MB", lines[-1])
    assert files(tmp_path / "folder") == ["config.yaml", "model.safetensors", "tokenizer.model"]
    sonant_command("convert", tmp_path / "folder", tmp_path / "deep" / "back.nemo")
    ours, theirs = state_of(tmp_path / "deep" / "back.nemo"), state_of(BPE)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in theirs)


def test_convert_keeps_the_stored_precision(tmp_path: Path) -> None:
    half = sonant.save(sonant.load(BPE, device="cpu", dtype="bfloat16"), tmp_path / "half.nemo")
    sonant_command("convert", half, tmp_path / "folder")
    sonant_command("convert", tmp_path / "folder", tmp_path / "back.nemo")
    ours, theirs = state_of(tmp_path / "back.nemo"), state_of(half)
    assert {v.dtype for v in ours.values()} == {torch.bfloat16, torch.float32, torch.int64}
    assert all(ours[k].dtype == theirs[k].dtype and torch.equal(ours[k], theirs[k]) for k in theirs)


@pytest.mark.parametrize("target", ["there.nemo", "there"])
def test_convert_overwrites_only_when_told(target: str, tmp_path: Path) -> None:
    path = tmp_path / target
    if path.suffix:
        path.write_text("precious")
    else:
        path.mkdir()
        (path / "notes.txt").write_text("precious")
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    assert error_of("convert", BPE, path) == f"{path} is already there; pass --overwrite to replace it"
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before
    sonant_command("convert", BPE, path, "--overwrite")
    sonant.load(path, device="cpu")


def test_convert_into_an_empty_folder(tmp_path: Path) -> None:
    sonant_command("convert", BPE, tmp_path)
    sonant.load(tmp_path, device="cpu")


def test_convert_what_is_not_there_or_where_it_cannot(tmp_path: Path) -> None:
    assert error_of("convert", tmp_path / "none.nemo", tmp_path / "out") == f"there is no file or folder {tmp_path}/none.nemo"
    (tmp_path / "file").write_text("in the way")
    for target in ("file/out", "file/out.nemo"):
        assert f"{tmp_path}/file" in sonant_command("convert", BPE, tmp_path / target, status=1).stderr.splitlines()[-1]
    assert files(tmp_path) == ["file"]


# Transcribing ------------------------------------------------------------------------------------------------------------


def test_text_alone_goes_to_standard_output() -> None:
    result = transcribe(A, B)
    assert result.stdout == f"{TEXT[A]}\n{TEXT[B]}\n"
    assert result.stderr == ""


def test_every_format() -> None:
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
def test_timestamps_down_to_a_level(level: str, keys: list[str]) -> None:
    row = json.loads(transcribe(A, "--timestamps", level, "--format", "jsonl").stdout)
    assert list(row)[3:] == keys
    for key in keys:
        times = [t for span in row[key] for t in (span["start"], span["end"])]
        assert times == sorted(times) and times[0] >= 0 and times[-1] <= row["duration"]
    spans = row.get("words", row["segments"])
    expected = "".join(f"{s['start']:.2f} {s['end']:.2f} {s['text']}\n" for s in spans)
    assert transcribe(A, "--timestamps", level).stdout == expected


def test_several_as_json_are_one_array() -> None:
    assert [row["text"] for row in json.loads(transcribe(A, B, "--format", "json").stdout)] == [TEXT[A], TEXT[B]]


def test_the_suffix_of_the_output_chooses_the_format(tmp_path: Path) -> None:
    for suffix in ("json", "srt", "vtt", "ctm", "jsonl", "txt"):
        result = transcribe(A, "--output", tmp_path / f"out.{suffix}")
        assert result.stdout == ""
        assert (tmp_path / f"out.{suffix}").read_text() == transcribe(A, "--format", suffix).stdout


def test_the_head_of_a_hybrid() -> None:
    for head in ("ctc", "tdt"):
        assert transcribe(A, "--decoder", head, checkpoint=HYBRID).stdout == f"{TEXT[A]}\n"
    assert "decoder='rnnt': this model has tdt and ctc" in transcribe(A, "--decoder", "rnnt", checkpoint=HYBRID, status=1).stderr


def test_the_channel(tmp_path: Path) -> None:
    speech, rate = soundfile.read(A)
    other = soundfile.read(B)[0]
    soundfile.write(tmp_path / "two.wav", np.stack([speech, np.pad(other, (0, len(speech) - len(other)))], axis=1), rate)
    for channel, recording in enumerate((A, B)):
        assert transcribe(tmp_path / "two.wav", "--channel", channel).stdout == f"{TEXT[recording]}\n"
    failed = transcribe(tmp_path / "two.wav", "--channel", 2, status=1)
    assert f"failed: {tmp_path}/two.wav: there is no channel 2" in failed.stderr and failed.stdout == ""


def test_the_model_from_the_environment() -> None:
    assert sonant_command("transcribe", A, "--device", "cpu", SONANT_MODEL=str(BPE)).stdout == f"{TEXT[A]}\n"


def test_a_model_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text('{"audio_filepath": "old.wav", "text": ""}\n')
    for arguments in ([], ["--output", tmp_path / "out.jsonl", "--overwrite"]):
        assert "Did you mean 'parakeet" in error_of("transcribe", A, "--model", "parakeet-tdt-9b", *arguments)
    assert rows(tmp_path / "out.jsonl") == [{"audio_filepath": "old.wav", "text": ""}]


def test_an_error_shows_its_traceback_when_asked_for_more() -> None:
    with pytest.raises(sonant.errors.CheckpointError):
        sonant_command("-v", "transcribe", A, "--model", "none.nemo")


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
def test_options_that_make_no_sense(arguments: tuple[str, str]) -> None:
    result = transcribe(A, *arguments, status=2)
    assert arguments[0] in result.stderr and result.stdout == ""


@pytest.mark.parametrize(("option", "value"), [("--batch-seconds", "0"), ("--dtype", "int4"), ("--device", "warp")])
def test_values_that_make_no_sense(option: str, value: str) -> None:
    (line,) = sonant_command("transcribe", A, "--model", BPE, option, value, status=1).stderr.splitlines()
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
def test_bad_recordings_among_good_ones(batch_size: int, mixed: Path, tmp_path: Path) -> None:
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


def test_a_run_after_failures_tries_only_those_again(mixed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    transcribe(mixed, "--output", out, status=1)
    assert len(rows(out)) == 4
    shutil.copy(B, mixed / "empty.wav")
    again = transcribe(mixed, "--output", out, status=1)
    assert "4 of 10 recordings are already in" in again.stderr
    assert again.stderr.count("failed: ") == len(BAD) - 1
    assert rows(out)[-1]["text"] == TEXT[B] and len(rows(out)) == 5


@pytest.mark.parametrize("source", ["missing.wav", "folder", "bad.jsonl"])
def test_an_input_that_holds_nothing_does_not_stop_the_others(source: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "bad.jsonl").write_text('{"audio_filepath": "a.wav"}\nnonsense\n')
    result = transcribe(tmp_path / source, A, status=1)
    assert result.stdout == f"{TEXT[A]}\n"
    assert f"failed: {tmp_path / source}: " in result.stderr
    assert source != "bad.jsonl" or "bad.jsonl:2: not a manifest row" in result.stderr
    alone = transcribe(tmp_path / source, status=1)
    assert alone.stdout == "" and f"failed: {tmp_path / source}: " in alone.stderr


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


def test_a_run_that_was_killed_resumes(corpus: Path, tmp_path: Path) -> None:
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


def test_overwrite_does_all_again(corpus: Path, tmp_path: Path) -> None:
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
def test_shards_together_are_the_whole_and_apart(output: str, corpus: Path, tmp_path: Path) -> None:
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
def test_a_launcher_that_makes_no_sense(rank: str, world: str) -> None:
    result = transcribe(A, RANK=rank, WORLD_SIZE=world, status=2)
    assert f"RANK='{rank}' and WORLD_SIZE='{world}'" in result.stderr


def test_an_output_of_something_else_is_left_alone(tmp_path: Path) -> None:
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


def test_subtitles_of_several_without_a_folder_are_refused_before_anything_is_opened() -> None:
    assert "--format srt describes one recording, and there are 2: name a folder with --output FOLDER" in error_of(
        "transcribe", A, B, "--format", "srt", "--model", "never opened"
    )


# Hostile checkpoints -----------------------------------------------------------------------------------------------------


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def parts() -> tuple[dict[str, Any], dict[str, torch.Tensor], dict[str, bytes]]:
    with NemoArchive(BPE) as archive:
        return archive.config(), archive.state(), {n: archive.read(n) for n in archive.sizes() if n not in (CONFIG, WEIGHTS)}


def changed(
    path: Path, *, document: Callable[[dict[str, Any]], Any] | None = None, state: Callable[[dict[str, Any]], Any] | None = None
) -> None:
    config, tensors, tokens = parts()
    if document is not None:
        document(config)
    if state is not None:
        state(tensors)
    write_archive(path, config, tensors, tokens)


def with_member(path: Path, **fields: Any) -> None:
    shutil.copy(BPE, path)
    entry = tarfile.TarInfo()
    for key, value in fields.items():
        setattr(entry, key, value)
    with tarfile.open(path, "a") as tar:
        tar.addfile(entry, io.BytesIO(b""))


LINEAR = "encoder.layers.0.self_attn.linear_q.weight"
HOSTILE: dict[str, tuple[Callable[[Path, Path], Any], str]] = {
    "truncated": (lambda p, _: p.write_bytes(BPE.read_bytes()[:300_000]), "is not a whole .nemo archive"),
    "not a tar": (lambda p, _: p.write_bytes(b"<html>404</html>" * 100), "is not a whole .nemo archive"),
    "empty": (lambda p, _: p.touch(), "is not a whole .nemo archive"),
    "outside": (lambda p, _: with_member(p, name="../../evil"), "'../../evil' leads out of the checkpoint; refused"),
    "absolute": (lambda p, m: with_member(p, name=str(m)), "leads out of the checkpoint; refused"),
    "symlink": (lambda p, _: with_member(p, name="x", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "'x' is a link"),
    "hard link": (lambda p, _: with_member(p, name="x", type=tarfile.LNKTYPE, linkname="/etc/passwd"), "'x' is a link"),
    "code": (lambda p, m: changed(p, state=lambda s: s.update(evil=Evil(m))), "nothing was run"),
    "bare pickle": (lambda p, m: p.write_bytes(pickle.dumps(Evil(m))), "is not a whole .nemo archive"),
    "os.system": (lambda p, _: changed(p, document=lambda d: d.update(target="os.system")), "its class is 'os.system'"),
    "a part os.system": (
        lambda p, _: changed(p, document=lambda d: d["encoder"].update(_target_="os.system")),
        "encoder is 'os.system'",
    ),
    "environment": (
        lambda p, _: changed(p, document=lambda d: d["encoder"].update(d_model="${oc.env:HOME}")),
        "'${oc.env:HOME}' would look outside",
    ),
    "unknown key": (lambda p, _: changed(p, document=lambda d: d["encoder"].update(frob=1)), "does not know: encoder.frob"),
    "missing": (
        lambda p, _: changed(p, state=lambda s: s.pop(LINEAR)),
        "1 tensors missing: encoder.layers.0.attention.query.weight",
    ),
    "left over": (
        lambda p, _: changed(p, state=lambda s: s.update(evil=torch.ones(1))),
        "1 tensors left over that no table knows: evil",
    ),
    "misshapen": (
        lambda p, _: changed(p, state=lambda s: s.update({LINEAR: torch.ones(2, 2)})),
        "(2, 2), the config asks for (32, 32)",
    ),
    "nested": (lambda p, _: changed(p, state=lambda s: s.update(deep={"a": torch.ones(1)})), "not a flat dictionary of tensors"),
    "absurd sizes": (
        lambda p, _: changed(p, document=lambda d: d["encoder"].update(d_model=2**40, n_heads=2**20)),
        "its config cannot be built",
    ),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_checkpoint_is_one_clear_line(attack: str, tmp_path: Path) -> None:
    make, fault = HOSTILE[attack]
    path, mark = tmp_path / "hostile.nemo", tmp_path / "mark"
    make(path, mark)
    for command in (["transcribe", A, "--device", "cpu", "--model", path], ["convert", path, tmp_path / "out"]):
        text = error_of(*command)
        assert str(path) in text and fault in text
    assert files(tmp_path) == ["hostile.nemo"] and not mark.exists()


def test_the_error_of_a_command_is_a_click_exception() -> None:
    """So that whoever embeds the group gets what click's own commands raise."""
    command = App("sonant", callback=app.callback, params=app.params)
    model.add_to(command)
    with pytest.raises(click.ClickException, match="there is no file or folder"):
        command.main(["convert", "none.nemo", "out"], standalone_mode=False)
