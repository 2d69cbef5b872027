"""A side in a process of its own, with a Python of its own."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sonant.errors import ConfigError, SonantError

_SERVE = Path(__file__).parent / "workers" / "serve.py"
_SHOWN = 5  # last lines of what a worker said before it ended


class Worker:
    """The process of one side; see `workers/serve.py` for what is asked and answered.

    Args:
        python: the interpreter that runs it.
        script: the file that says what it can do.
        threads: of its CPU.

    Raises:
        ConfigError: it cannot be started.
    """

    def __init__(self, python: str, script: Path, threads: int) -> None:
        self.python = python
        self._said = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (closed with the worker)
        try:
            self._process = subprocess.Popen(  # noqa: S603 (an interpreter that the user named)
                [python, str(_SERVE), str(script.resolve())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            )
        except OSError as error:
            self._said.close()
            raise ConfigError(f"{python} cannot be run: {error.strerror or error}") from error
        self.threads = threads

    def answer(self, **request: Any) -> dict[str, Any]:
        """One request and its answer, which may be that it cannot or that it failed.

        Raises:
            SonantError: it ended, or wrote something that is no answer.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        line = ""
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
            found = json.loads(line)
        except (BrokenPipeError, ValueError):
            found = None
        if not isinstance(found, dict):
            what = f"answered {line.strip()[:80]!r}" if line else f"ended with status {self._process.wait()}"
            raise SonantError(f"{self.python} {what} when it was asked for {_asked(request)}{self._last_words()}")
        return found

    def ask(self, action: str, **arguments: Any) -> dict[str, Any]:
        """One action and its answer.

        Raises:
            SonantError: it failed.
        """
        found = self.answer(do=action, **arguments)
        if "value" not in found:
            raise SonantError(f"{self.python}: {action}: {trouble(found)}{self._last_words()}")
        return found

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = self._said.read().strip().splitlines()[-_SHOWN:]
        return "".join(f"\n  {line}" for line in lines)

    def close(self) -> None:
        """End it."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue
        self._process.wait()
        self._said.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            self._process.kill()  # it may be in the middle of something long
        self.close()


def trouble(answer: dict[str, Any]) -> str:
    """What an answer without a value says."""
    missing = f"{answer['missing']} is not installed there" if "missing" in answer else ""
    return str(answer.get("cannot") or missing or answer.get("error") or f"no answer: {answer}")


def _asked(request: dict[str, Any]) -> str:
    return str(request.get("do") or request.get("time"))
