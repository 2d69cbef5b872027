"""Sides of `sonant bench` in processes of their own: what they answer, how they end, and environments that lack them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from sonant.benchmarking import rivals
from sonant.benchmarking.worker import Worker
from sonant.errors import ConfigError, SonantError

WORKER = """
import sys, time
from pathlib import Path

ready = []

def versions(threads):
    print("what a library says on standard output")
    return {"name": "rival 1.0", "torch": "none"}

def load(file):
    return len(ready)

def absent():
    import a_package_that_is_nowhere

def wrong():
    raise ValueError("no such thing")

def cannot():
    raise NotImplementedError("it is not made for that")

def leave():
    print("the last words", file=sys.stderr)
    raise SystemExit(3)

def sleep(seconds):
    ready.append(seconds)
    return lambda: time.sleep(seconds) or seconds, lambda found: [found, len(ready)]

def hold(megabytes):
    return lambda: b"x" * (megabytes << 20), len

ACTIONS = {f.__name__: f for f in (versions, load, absent, wrong, cannot, leave)}
STAGES = {"sleep": sleep, "hold": hold, "refuse": lambda: cannot()}
"""


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    (tmp_path / "some_worker.py").write_text(WORKER)
    with Worker(sys.executable, tmp_path / "some_worker.py", 1) as running:
        yield running


def test_a_stage_is_made_ready_once_and_timed_each_time(worker: Worker) -> None:
    first = worker.answer(time="sleep", calls=3, keep=True, seconds=0.01)
    assert len(first["times"]) == 3
    assert min(first["times"]) >= 0.01
    assert first["value"] == [0.01, 1]
    assert worker.answer(time="sleep", calls=1, keep=False, seconds=0.01)["value"] is None
    assert worker.answer(time="sleep", calls=1, keep=True, seconds=0.01)["value"] == [0.01, 1]
    assert worker.answer(time="sleep", calls=1, keep=True, seconds=0.0)["value"] == [0.0, 2]
    assert worker.ask("load", file="model")["value"] == 2
    assert worker.answer(time="sleep", calls=1, keep=True, seconds=0.0)["value"] == [0.0, 3], "a model has come since"


def test_the_peak_is_that_of_the_stage(worker: Worker) -> None:
    little = worker.answer(time="hold", calls=2, megabytes=0)["peak_gib"]
    much = worker.answer(time="hold", calls=2, keep=True, megabytes=96)
    assert much["value"] == 96 << 20
    assert 90 / 1024 < much["peak_gib"] - little < 110 / 1024  # one at a time


def test_what_a_library_prints_is_no_answer(worker: Worker) -> None:
    assert worker.ask("versions", threads=1)["value"]["name"] == "rival 1.0"


def test_what_a_worker_says_instead_of_an_answer(worker: Worker) -> None:
    assert worker.answer(do="cannot") == {"cannot": "it is not made for that"}
    assert worker.answer(time="refuse", calls=1) == {"cannot": "it is not made for that"}
    assert worker.answer(do="absent") == {"missing": "a_package_that_is_nowhere"}
    assert worker.answer(do="wrong") == {"error": "ValueError: no such thing"}
    with pytest.raises(SonantError, match="wrong: ValueError: no such thing\n"):
        worker.ask("wrong")
    with pytest.raises(SonantError, match=r"ended with status 3 when it was asked for leave\n[\s\S]*\n  the last words$"):
        worker.ask("leave")
    with pytest.raises(SonantError, match="ended with status 3 when it was asked for load"):
        worker.ask("load", file="x")


@pytest.mark.parametrize(("script", "said"), [("print('hello')", "answered 'hello'"), ("", "ended with status 0")])
def test_a_program_that_is_no_python(script: str, said: str, tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!{sys.executable}\n{script}\n")
    program.chmod(0o755)
    with pytest.raises(SonantError, match=said), Worker(str(program), tmp_path / "worker.py", 1) as running:
        running.ask("versions")


def test_an_interpreter_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="nowhere/bin/python cannot be run: No such file"):
        Worker("nowhere/bin/python", Path("worker.py"), 1)


# Rivals


def test_the_interpreters_of_rivals() -> None:
    assert rivals.interpreters([], []) == {}
    assert rivals.interpreters(["nemo"], []) == {"nemo": sys.executable}
    both = ["nemo", "transformers"]
    assert rivals.interpreters(both, ["a/python"]) == {"nemo": "a/python", "transformers": "a/python"}
    assert rivals.interpreters(both, ["a/x=y", "nemo=b"]) == {"nemo": "b", "transformers": "a/x=y"}
    with pytest.raises(ConfigError, match="--against espnet: there are nemo and transformers"):
        rivals.interpreters(["espnet"], [])
    with pytest.raises(ConfigError, match="name it too, as --against nemo"):
        rivals.interpreters(["transformers"], ["nemo=b"])
    with pytest.raises(ConfigError, match="name it too"):
        rivals.interpreters([], ["b"])


def test_a_rival_that_is_not_installed() -> None:
    """`test_what_a_worker_says_instead_of_an_answer` is the same of a package that nobody has."""
    if find_spec("nemo") is not None:
        pytest.skip("NeMo is installed in this environment")
    with pytest.raises(ConfigError) as raised:
        rivals.start("nemo", sys.executable, 1)
    python = sys.executable
    advice = f"install it with: {python} -m pip install 'nemo_toolkit[asr]'"
    assert str(raised.value) == f"--against nemo: {python}: nemo is not installed there; {advice}"
