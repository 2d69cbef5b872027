"""`sonant transcribe --live`: from a file, a pipe, to a terminal, to programs; with its latency, and an end by Control-C."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile
from click.testing import CliRunner, Result

import sonant
from sonant.cli.main import app
from sonant.results import Span
from sonant_asr.live.display import Terminal, Text
from sonant_asr.live.heard import Heard
from sonant_asr.live.latency import Latency
from sonant_asr.streaming.events import Event

CASES = Path(__file__).parents[3] / "tests" / "nemo-cases"
MODEL = CASES / "fastconformer_streaming_rnnt_bpe.nemo"
RECORDING = CASES / "b.wav"


@pytest.fixture(scope="module")
def text() -> str:
    """What the model makes of the recording as a whole."""
    found: str = sonant.load(MODEL, device="cpu").transcribe(RECORDING)[0].text
    assert " " in found
    return found


def live(*arguments: object, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(app, ["transcribe", "--live", *map(str, arguments), "--model", str(MODEL)], input=stdin)


def bare(path: Path) -> bytes:
    samples, rate = soundfile.read(path, dtype="int16")
    assert rate == 16000
    return bytes(samples.astype("<i2").tobytes())


def test_a_file_at_its_own_pace_gives_the_text_of_the_whole(text: str) -> None:
    result = live(RECORDING)
    assert result.exit_code == 0, result.output
    assert " ".join(result.stdout.split()) == text
    assert "listening to" in result.stderr
    assert re.search(r"steps of \d\.\d\d s, done \d+\.\d\d s behind their last sample", result.stderr)


def test_standard_input_may_be_wav_or_bare_samples(text: str) -> None:
    for data in (RECORDING.read_bytes(), bare(RECORDING)):
        result = live("-", stdin=data)
        assert result.exit_code == 0, result.output
        assert " ".join(result.stdout.split()) == text


def test_rows_tell_what_is_final_and_what_may_change(text: str) -> None:
    rows = [json.loads(line) for line in live("-", "--format", "jsonl", stdin=RECORDING.read_bytes()).stdout.splitlines()]
    assert "".join(row["text"] for row in rows).strip() == text
    assert [word["text"] for row in rows for word in row["words"]] == text.split()
    assert [row["ended"] for row in rows] == [False] * (len(rows) - 1) + [True]
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)
    assert all(row["latency"] >= 0 for row in rows)


def test_a_smaller_look_ahead_takes_smaller_steps() -> None:
    steps = []
    for look_ahead in (0, 10):
        heard = live("-", "--look-ahead", look_ahead, stdin=RECORDING.read_bytes())
        steps.append(float(re.search(r"steps of (\d\.\d\d) s", heard.stderr)[1]))  # type: ignore[index]
    assert steps[0] < steps[1]


def test_the_whole_is_written_in_the_end(tmp_path: Path, text: str) -> None:
    target = tmp_path / "talk.srt"
    assert live("-", "--output", target, stdin=RECORDING.read_bytes()).exit_code == 0
    cues = target.read_text()
    assert "00:00:00," in cues
    assert all(word in cues for word in text.split())
    again = live("-", "--output", target, stdin=RECORDING.read_bytes())
    assert again.exit_code == 1
    assert "exists; --overwrite replaces it" in again.stderr
    assert live("-", "--output", target, "--overwrite", stdin=RECORDING.read_bytes()).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--live", "a.wav", "b.wav"], "--live hears one source, and 2 are named"),
        (["--live", "a.wav", "--batch-size", "4"], "--batch-size cannot be used with --live"),
        (["a.wav", "--look-ahead", "1"], "--look-ahead cannot be used without --live"),
        (["--live", "-", "--n-best", "2"], "--n-best cannot be used with --live"),
        (["-"], "- is standard input, which is heard with --live"),
        (["--live", "nowhere.wav"], "nowhere.wav: there is no such file"),
        ([], "name a recording, a folder or a manifest; or --live"),
        (["--live", "-", "--format", "srt"], "name a file with --output"),
        (["--live", "-", "--output", "folder"], "--live writes one file"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(app, ["transcribe", *arguments, "--model", str(MODEL)])
    assert result.exit_code != 0
    assert says in result.stderr


def test_a_model_that_does_not_stream_says_so() -> None:
    model = CASES / "fastconformer_ctc_bpe.nemo"
    result = CliRunner().invoke(app, ["transcribe", "--live", "-", "--model", str(model)], input=RECORDING.read_bytes())
    assert result.exit_code == 1
    assert "these features do not stream" in result.stderr
    assert "A stream needs a model that was trained for it" in result.stderr


def test_a_source_that_is_no_audio_is_one_clear_error() -> None:
    result = live("-", stdin=b"OggS" + bytes(100))
    assert result.exit_code == 1
    assert "the stream is ogg" in result.stderr
    assert "Traceback" not in result.output


def test_control_c_ends_a_stream_with_all_that_was_heard(tmp_path: Path, text: str) -> None:
    target = tmp_path / "talk.txt"
    command = [
        sys.executable,
        "-c",
        "from sonant.cli.main import main; main()",
        "transcribe",
        "--live",
        "-",
        "-o",
        str(target),
        "--model",
        str(MODEL),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(bare(RECORDING) + bytes(2 * 48000))  # silence behind, so that all words are said
        process.stdin.flush()
        while b"listening" not in process.stderr.readline():
            assert process.poll() is None
        deadline = time.monotonic() + 60
        while not _is_idle(process.pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)  # while standard input stays open
        assert process.wait(timeout=60) == 0
        assert " ".join(process.stdout.read().decode().split()) == text
    assert " ".join(target.read_text().split()) == text


def _is_idle(pid: int) -> bool:
    """Whether a process used no processor time for a moment."""
    before = _ticks(pid)
    time.sleep(0.5)
    return _ticks(pid) == before


def _ticks(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]


def screen(written: str) -> list[str]:
    """What stands on a terminal that understands what is used of it: return, new line, clear to the end of the line, dim."""
    lines = [""]
    for part in re.findall(r"\r|\n|\x1b\[K|\x1b\[[02]m|[^\r\n\x1b]+", written):
        if part == "\n":
            lines.append("")
        elif part == "\r":
            lines[-1] = "\r"  # overwritten from its beginning, which is cleared next
        elif part == "\x1b[K":
            assert lines[-1] == "\r"
            lines[-1] = ""
        elif not part.startswith("\x1b"):
            lines[-1] += part
    return lines


def test_a_terminal_shows_full_lines_and_the_word_that_grows() -> None:
    out = io.StringIO()
    display = Terminal(out, width=20)
    said = [("", "the"), ("the quick", " bro"), (" brown fox", " jum"), (" jumps over", ""), (" the lazy dog", "")]
    for final, partial in said:
        display.show(Event(text=final, partial=partial), 0.0)
        lines = screen(out.getvalue())
        assert all(len(line) < 20 for line in lines)
    assert screen(out.getvalue())[:2] == ["the quick brown fox", "jumps over the lazy"]
    display.show(Event(ended=True), 0.0)
    assert " ".join(screen(out.getvalue())).split() == ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog"]
    assert out.getvalue().endswith("\n")


def test_a_terminal_obeys_nothing_that_a_model_says() -> None:
    out = io.StringIO()
    Terminal(out, width=40).show(Event(text="a\x1b[2Jb\nc", ended=True), 0.0)
    assert screen(out.getvalue())[0] == "a\\x1b[2Jb\\nc"


def test_text_has_a_line_for_what_is_said_between_pauses() -> None:
    out = io.StringIO()
    display = Text(out)
    events = [Event(text="one"), Event(text=" two", pause=True), Event(partial="th"), Event(text=" three"), Event(ended=True)]
    for event in events:
        display.show(event, 0.0)
    assert out.getvalue() == "one two\nthree\n"


def test_segments_end_at_pauses_and_behind_sentences() -> None:
    heard = Heard("talk", [".", "?"])
    words = [Span("hello", 0, 1), Span("there.", 1, 2), Span("who", 2, 3)]
    heard.add(Event(text="hello there. who", words=tuple(words)))
    heard.add(Event(pause=True))
    heard.add(Event(text=" me", words=(Span("me", 5, 6),), ended=True))
    transcript = heard.transcript(7.0)
    assert transcript.text == "hello there. who me"
    assert transcript.segments == (Span("hello there.", 0, 2), Span("who", 2, 3), Span("me", 5, 6))
    assert [word.text for word in transcript.words] == ["hello", "there.", "who", "me"]


def test_latency_is_counted_from_when_the_sound_was_there() -> None:
    latency = Latency(started=100.0, waits=0.5)
    for second in range(4):
        arrived = 100.5 + 0.5 * second
        word = Event(text=" w", words=(Span("w", 0.5 * second, 0.5 * second + 0.4),))
        latency.add([word], seconds=0.5, arrived=arrived, began=arrived + 0.05, done=arrived + 0.25)
    summary = latency.summary()
    assert "2.0 s heard, computed in 0.40 of that time" in summary  # 4 times 0.2 s
    assert "done 0.25 s behind their last sample" in summary
    assert "words final 0.35 s behind their end" in summary  # 0.5 + 0.25 - 0.4
    assert not latency.is_slow
    latency.add([Event(partial="x")], seconds=0.5, arrived=102.5, began=106.0, done=107.0)
    assert latency.is_slow


def test_of_audio_that_came_at_once_only_the_speed_is_told() -> None:
    latency = Latency(started=100.0, waits=0.5)
    latency.add([Event(text="w", words=(Span("w", 0, 1),))], seconds=60.0, arrived=100.1, began=100.1, done=103.1)
    assert latency.summary() == "60.0 s heard, computed in 0.05 of that time"
