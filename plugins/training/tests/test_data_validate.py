"""`sonant data validate`: each problem is found where it was put and nowhere else, and what is written is fine."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from click.testing import CliRunner, Result

from sonant import inputs
from sonant.cli.main import app
from sonant.errors import ConfigError
from sonant_training.data.tools import cli, measuring, validating
from sonant_training.data.tools.findings import PROBLEMS, Limits
from sonant_training.data.tools.texts import odd_characters
from sonant_training.data.tools.validating import validate

RATE = 16000
Samples = npt.NDArray[np.float64]


def tone(seconds: float, frequency: float = 220.0, amplitude: float = 0.3) -> Samples:
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)


def chirp(seconds: float) -> Samples:
    """Rising, so that no two pieces are the same."""
    time = np.arange(round(seconds * RATE)) / RATE
    return 0.3 * np.sin(2 * np.pi * (100 + 50 * time) * time)


class Corpus:
    """Recordings and the manifest of them, row by row, each with the problems that are to be found."""

    def __init__(self, folder: Path, name: str = "train.jsonl") -> None:
        self.manifest = folder / name
        self.folder = folder
        self.lines: list[str] = []
        self.expected: list[set[str]] = []

    def row(self, samples: Samples | None, *problems: str, name: str = "", **values: Any) -> None:
        """With samples, a file is written for it. Each has a pitch of its own, so that no two are the same."""
        name = name or f"clips/{len(self.lines)}.wav"
        if samples is not None:
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(self.folder / name, samples, RATE)
        row = {"audio_filepath": name, "text": "ten letters"} | values
        self.line(json.dumps({key: value for key, value in row.items() if value is not ...}), *problems)

    def line(self, text: str, *problems: str) -> None:
        self.lines.append(text)
        self.expected.append(set(problems))
        self.manifest.write_text("\n".join(self.lines) + "\n", "utf-8")


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Every problem there is, with a good row behind each."""
    made = Corpus(tmp_path)
    pitch: Iterator[float] = iter(range(150, 1000, 7))

    def good(**values: Any) -> None:
        made.row(tone(1.0, next(pitch)), duration=1.0, **values)

    good()
    made.line("{not json", "row")
    made.line('["a list"]', "row")
    made.line(json.dumps({"text": "no file"}), "row")
    made.line(json.dumps({"audio_filepath": "a.wav", "duration": "long"}), "row")
    made.line(json.dumps({"audio_filepath": "a.wav", "offset": -1.0}), "row")
    good(speaker="anna", lang="en")
    made.row(None, "missing", name="nowhere.wav")
    made.row(None, "missing", name="x" * 300)
    made.row(None, "missing", "empty", name="nowhere.wav", text="")
    good()
    (tmp_path / "noise.wav").write_bytes(b"this is no audio")
    made.row(None, "unreadable", name="noise.wav")
    made.row(np.zeros(0), "unreadable")
    made.row(None, "unreadable", name=".")
    os.mkfifo(tmp_path / "pipe.wav")
    made.row(None, "unreadable", name="pipe.wav")
    made.row(tone(1.0), "unreadable", name="cut.wav")
    whole = (tmp_path / "cut.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    good()
    made.row(np.zeros(RATE), "silent")
    made.row(np.zeros(RATE), "silent")  # which is not a duplicate too: all silence is the same
    made.row(tone(1.0, next(pitch), 0.0005), "silent")
    made.row(tone(1.0, next(pitch), 0.003))  # -53.5 dB: quiet, and there
    made.row(np.clip(tone(1.0, next(pitch), 1.5), -1, 1), "clipped")
    made.row(0.1 * np.clip(tone(1.0, next(pitch), 1.5), -1, 1), "clipped")  # made quieter afterwards
    made.row(tone(0.05, next(pitch)), "length", text="a")
    made.row(tone(2.0, next(pitch)), "duration", duration=1.0)
    made.row(tone(1.0, next(pitch)), "duration", duration=2.0)
    made.row(tone(1.0, next(pitch)), duration=1.19)  # within the tolerance
    made.row(tone(40.0, next(pitch)), duration=40.39, text="a" * 300)  # within one per cent
    made.row(tone(1.0, next(pitch)), "pace", text="x" * 31)
    made.row(tone(1.0, next(pitch)), text="x" * 30)
    made.row(tone(10.0, next(pitch)), "pace", text="four")
    made.row(tone(1.0, next(pitch)), "empty", text="  ")
    made.row(tone(1.0, next(pitch)), "empty", text=...)
    made.row(tone(1.0, next(pitch)), "empty", text=5)
    made.row(tone(1.0, next(pitch)), "characters", text="zero\u200bwidth")
    made.row(tone(1.0, next(pitch)), "characters", text="naÃ¯ve")
    made.row(tone(1.0, next(pitch)), "characters", text="сat sat")  # its first letter is Cyrillic
    made.row(tone(1.0, next(pitch)), text="naïve café, “so” – щи")
    made.row(chirp(3.0), name="talk.wav", text="ten letters and more")
    made.row(None, name="talk.wav", offset=0.0, duration=1.0)
    made.row(None, name="talk.wav", offset=1.0, duration=1.5)
    made.row(None, "duplicate", name="talk.wav", offset=1.0, duration=1.5)
    made.row(None, "duration", name="talk.wav", offset=2.0, duration=3.0)
    made.row(None, "unreadable", name="talk.wav", offset=4.0, duration=1.0)
    samples, _ = soundfile.read(tmp_path / "clips/0.wav")
    made.row(samples, "duplicate", name="same.flac", duration=1.0)
    good()
    return made


def found(report: validating.Report) -> dict[int, set[str]]:
    return {checked.row.line: {finding.problem for finding in checked.findings} for checked in report.found}


def test_every_problem_is_found_where_it_is_and_nowhere_else(corpus: Corpus) -> None:
    report = validate([corpus.manifest])
    assert found(report) == {line: problems for line, problems in enumerate(corpus.expected, start=1) if problems}
    assert set().union(*corpus.expected) == set(PROBLEMS), "a problem that no test puts anywhere"
    assert report.rows == len(corpus.lines)
    assert report.fine == sum(not problems for problems in corpus.expected)
    assert report.problems == {name: sum(name in p for p in corpus.expected) for name in PROBLEMS}


def test_the_order_does_not_depend_on_threads(corpus: Corpus) -> None:
    assert validate([corpus.manifest], workers=1).to_dict() == validate([corpus.manifest], workers=7).to_dict()


def test_a_cleaned_manifest_is_fine(corpus: Corpus, tmp_path: Path) -> None:
    output = tmp_path / "elsewhere" / "clean.jsonl"
    report = validate([corpus.manifest], output=output)
    again = validate([output])
    assert (again.rows, again.found) == (report.fine, [])
    assert again.seconds == pytest.approx(report.fine_seconds)
    kept = [json.loads(line) for line, problems in zip(corpus.lines, corpus.expected, strict=True) if not problems]
    for row, item in zip(kept, inputs.expand(output), strict=True):
        assert Path(item.source).resolve() == (tmp_path / row["audio_filepath"]).resolve()
        stated = {key: value for key, value in row.items() if key not in ("audio_filepath", "duration")}
        assert stated.items() <= item.row.items()
        seconds = soundfile.info(item.source).duration
        assert item.row["duration"] == row.get("duration", pytest.approx(seconds)), "what was right stays as it was written"
    assert not list(tmp_path.rglob("*.partial"))


def test_kept_rows_get_the_duration_they_have(corpus: Corpus, tmp_path: Path) -> None:
    report = validate([corpus.manifest], keep={"duration"}, output=tmp_path / "clean.jsonl")
    assert report.fine == sum(problems <= {"duration"} for problems in corpus.expected)
    rows = [json.loads(line) for line in (tmp_path / "clean.jsonl").read_text("utf-8").splitlines()]
    by_name = {row["audio_filepath"]: row for row in rows if "offset" not in row}
    (longer, shorter) = (n for n, p in enumerate(corpus.expected) if p == {"duration"} and "offset" not in corpus.lines[n])
    assert by_name[f"clips/{longer}.wav"]["duration"] == 2.0
    assert by_name[f"clips/{shorter}.wav"]["duration"] == 1.0
    assert next(row for row in rows if row.get("offset") == 2.0)["duration"] == 1.0


def test_the_same_audio_in_two_manifests_is_found(tmp_path: Path) -> None:
    train, test = Corpus(tmp_path, "train.jsonl"), Corpus(tmp_path, "test.jsonl")
    train.row(tone(1.0), name="train/a.wav", text="what was said")
    test.row(tone(1.0, 300.0), name="test/b.wav")
    test.row(tone(1.0), name="test/c.wav", text="something else")
    assert validate([train.manifest]).found == validate([test.manifest]).found == []
    (checked,) = validate([train.manifest, test.manifest]).found
    assert (checked.row.name, checked.row.line) == ("test/c.wav", 2)
    (finding,) = checked.findings
    assert finding.problem == "duplicate"
    assert f"{train.manifest}:1" in finding.detail
    assert "another text: 'what was said'" in finding.detail


def test_of_the_same_audio_one_row_stays(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.row(tone(1.0), "empty", name="a.wav", text="")
    corpus.row(None, name="a.wav", text="the right one")
    corpus.row(None, "duplicate", name="a.wav", text="the right one")
    assert found(validate([corpus.manifest])) == {1: {"empty"}, 3: {"duplicate"}}
    assert found(validate([corpus.manifest], keep={"empty"})) == {1: {"empty"}, 2: {"duplicate"}, 3: {"duplicate"}}


def test_silence_is_not_a_copy_of_other_silence(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.row(np.zeros(RATE), "silent")
    corpus.row(np.zeros(RATE), "silent")
    assert found(validate([corpus.manifest], keep={"silent"})) == {1: {"silent"}, 2: {"silent"}}


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        (Limits(silence=-20.0), "silent"),
        (Limits(shortest=1.5), "length"),
        (Limits(longest=0.5), "length"),
        (Limits(slowest=12.0), "pace"),
        (Limits(fastest=10.0), "pace"),
        (Limits(characters=frozenset("abc")), "characters"),
        (Limits(tolerance=0.05), "duration"),
        (Limits(clipping=-1.0), "clipped"),
    ],
)
def test_limits_decide(tmp_path: Path, limits: Limits, problem: str) -> None:
    corpus = Corpus(tmp_path)
    corpus.row(tone(1.0, amplitude=0.1), duration=1.1)
    assert validate([corpus.manifest]).found == []
    assert found(validate([corpus.manifest], limits=limits)) == {1: {problem}}


# What is measured, against its formula


@pytest.mark.parametrize("amplitude", [1.0, 0.25, 0.001])
def test_the_level_of_a_sine_is_its_amplitude_over_the_root_of_two(amplitude: float) -> None:
    quiet_then_loud = np.concatenate([tone(2.0, 200.0, amplitude / 100), tone(0.1, 200.0, amplitude)]).astype(np.float32)
    assert measuring.loudest(quiet_then_loud, RATE) == pytest.approx(20 * math.log10(amplitude / math.sqrt(2)), abs=0.01)


@pytest.mark.parametrize(("gain", "scale"), [(2.0, 1.0), (2.0, 0.2), (1.2, 1.0), (1.2, 0.05)])
def test_the_clipped_part_of_a_sine_is_where_it_is_beyond_the_limit(gain: float, scale: float) -> None:
    clipped = scale * np.clip(tone(4.0, 97.3, gain), -1, 1)
    expected = 1 - 2 / math.pi * math.asin(1 / gain)  # of a period, |sin| > 1 / gain
    assert measuring.clipped(clipped.astype(np.float32)) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("amplitude", [1.0, 0.3, 0.003])
@pytest.mark.parametrize("frequency", [50.0, 211.0])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_coarse_sine_is_not_clipped(amplitude: float, frequency: float, bits: int) -> None:
    steps = 2.0 ** (bits - 1)
    assert measuring.clipped((np.round(steps * tone(1.0, frequency, amplitude)) / steps).astype(np.float32)) == 0


def test_speech_is_not_taken_for_clipped_until_it_is(speech: Path, tmp_path: Path) -> None:
    samples, rate = soundfile.read(speech)
    for subtype in ("PCM_16", "PCM_24", "FLOAT"):
        soundfile.write(tmp_path / "a.wav", samples, rate, subtype=subtype)
        assert measuring.measure(tmp_path / "a.wav").clipped < Limits().clipping / 10
    peak = np.abs(samples).max()
    soundfile.write(tmp_path / "b.wav", np.clip(4 * samples / peak, -1, 1), rate)
    assert measuring.measure(tmp_path / "b.wav").clipped > Limits().clipping


@pytest.fixture
def speech() -> Path:
    return Path(__file__).resolve().parents[3] / "tests" / "nemo-cases" / "a.wav"


def test_a_sound_is_what_its_file_says(tmp_path: Path) -> None:
    both = (2**15 * np.stack([tone(1.5, 200.0), tone(1.5, 300.0)], axis=1)).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", both, 44100)
    sound = measuring.measure(tmp_path / "a.wav")
    assert (sound.sample_rate, sound.channels) == (44100, 2)
    assert sound.seconds == pytest.approx(1.5 * RATE / 44100)
    soundfile.write(tmp_path / "a.flac", both, 44100)
    assert measuring.measure(tmp_path / "a.flac").digest == sound.digest
    soundfile.write(tmp_path / "b.wav", both, 44000)
    assert measuring.measure(tmp_path / "b.wav").digest != sound.digest, "the same samples at another rate sound different"


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "don't — “stop”!",
        "日本語 テスト",
        "слово",
        "naïve Ångström",
        "می\u200cروم",
        "क्\u200dष",
        "5 %",
        "β-carotene",
        "ÿ",
        "Ω µ",
    ],
)
def test_what_people_write_is_not_odd(text: str) -> None:
    assert list(odd_characters(text)) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\x07b", "U+0007"),
        ("a\ufffd", "decoded"),
        ("a\ue000", "private"),
        ("soft\u00adhyphen", "invisible"),
        ("\u200fright", "U+200F"),
        ("two\nlines", "U+000A"),
        ("cafÃ©", "'café'"),
        ("itâ€™s", "'it’s'"),
        ("Αlpha", "Greek and Latin"),
        ("\ud800", "surrogate"),
    ],
)
def test_what_nobody_writes_is_odd(text: str, said: str) -> None:
    (odd,) = odd_characters(text)
    assert said in odd


def test_allowed_characters_are_all_there_may_be() -> None:
    allowed = frozenset(" abcdefghijklmnopqrstuvwxyz'")
    assert list(odd_characters("don't stop", allowed)) == []
    assert [odd.split()[0] for odd in odd_characters("Don't stop!", allowed)] == ["'!'", "'D'"]


# The command


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    return lambda *args: CliRunner().invoke(app, ["data", "validate", *args], prog_name="sonant")


def test_the_command_prints_counts_and_examples(corpus: Corpus, run: Callable[..., Result]) -> None:
    done = run("train.jsonl", "--examples", "2")
    assert done.exit_code == 1
    table = {line.split()[0]: line.split()[1] for line in done.stdout.split("\n\n")[0].splitlines()[1:]}
    counts = {name: str(sum(name in p for p in corpus.expected)) for name in PROBLEMS}
    fine = str(sum(not p for p in corpus.expected))
    assert table == counts | {"fine": fine, "all": str(len(corpus.lines))}
    assert "train.jsonl:8 nowhere.wav: there is no file nowhere.wav" in done.stdout
    assert "and 3 more; --json has all" in done.stdout


def test_the_command_prints_json(corpus: Corpus, run: Callable[..., Result]) -> None:
    printed = json.loads(run("train.jsonl", "--json").stdout)
    assert printed["rows"] == len(corpus.lines)
    lines = {finding["line"]: {p["problem"] for p in finding["problems"]} for finding in printed["findings"]}
    assert lines == {line: problems for line, problems in enumerate(corpus.expected, start=1) if problems}


def test_the_status_is_0_where_nothing_is_left(corpus: Corpus, run: Callable[..., Result], tmp_path: Path) -> None:
    done = run("train.jsonl", "-o", "clean.jsonl")
    assert (done.exit_code, "wrote clean.jsonl" in done.stderr) == (0, True)
    assert run("clean.jsonl").exit_code == 0
    refused = run("train.jsonl", "-o", "clean.jsonl")
    assert refused.exit_code == 1
    assert "already there; pass --overwrite" in refused.stderr
    assert run("train.jsonl", "-o", "clean.jsonl", "--overwrite").exit_code == 0


def test_kept_problems_do_not_fail(run: Callable[..., Result], tmp_path: Path) -> None:
    Corpus(tmp_path).row(tone(1.0), "pace", text="x" * 100)
    assert run("train.jsonl").exit_code == 1
    assert run("train.jsonl", "--fastest", "100").exit_code == 0
    assert run("train.jsonl", "--keep", "pace").exit_code == 0


def test_the_options_are_the_limits_and_the_problems() -> None:
    defaults = {option.name: option.default for option in cli.validate_command.params}
    limits = {name: getattr(Limits(), name) for name in ("silence", "shortest", "longest", "tolerance", "slowest", "fastest")}
    assert limits.items() <= defaults.items()
    assert defaults["clipping"] == 100 * Limits().clipping
    keep = next(option for option in cli.validate_command.params if option.name == "keep")
    assert tuple(keep.type.choices) == tuple(name for name in PROBLEMS if name != "row")  # type: ignore[attr-defined]


def test_what_is_no_manifest_is_an_error(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(ConfigError, match="no rows"):
        validate([tmp_path / "empty.jsonl"], output=tmp_path / "clean.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["empty.jsonl"], "nothing half-written is left"
    assert run("nowhere.jsonl").exit_code == 2
    assert "no rows" in run("empty.jsonl").stderr


_HEAVY = """
import sys
from sonant.cli.main import app
app(sys.argv[1:], standalone_mode=False)
heavy = {"torch", "lightning", "lhotse", "matplotlib", "omegaconf"} & set(sys.modules)
sys.exit(f"imported: {heavy}" if heavy else 0)
"""


@pytest.mark.parametrize(
    "command",
    ["data validate m.jsonl", "data stats m.jsonl", "data make . -o all.jsonl", "tokenizer train m.jsonl -o made --size 20"],
)
def test_the_commands_stay_light(command: str, tmp_path: Path) -> None:
    Corpus(tmp_path, "m.jsonl").row(tone(1.0), name="a.wav", text="a few words of text")
    (tmp_path / "a.txt").write_text("a few words of text")
    done = subprocess.run([sys.executable, "-c", _HEAVY, *command.split()], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
