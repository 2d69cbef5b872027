"""The program of a worker: `python serve.py WORKER.py`.

Reads a JSON request a line from standard input, and writes a JSON answer a line to standard output:

    {"do": action, …arguments}                     {"seconds": of the call, "value": its result, "peak_gib": memory}
    {"time": stage, "calls": n, …arguments}        {"times": [seconds of each], "value": kept of the last, "peak_gib": memory}
    something that this side cannot do             {"cannot": why}
    a package that is not installed                {"missing": its name}
    something that failed                          {"error": its type and text}

Nothing of Sonant is imported: it runs in an environment that may not have it. Sonant itself uses `Stages`.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

Stage = tuple[Callable[[], Any], Callable[[Any], Any]]
"""`run`, which is timed, and `keep`, from its result to what an answer holds."""


class Stages:
    """The stages of a side. Making ready is not timed, and done once as long as the same is asked for."""

    def __init__(self, stages: Mapping[str, Callable[..., Stage]]) -> None:
        self._stages = stages
        self._ready: tuple[str, Stage] | None = None

    def time(self, stage: str, calls: int, keep: bool = False, **arguments: Any) -> dict[str, Any]:
        """So many calls after each other; with `keep` the answer's `value` is what is kept of the last."""
        asked = json.dumps([stage, arguments], sort_keys=True)
        if self._ready is None or self._ready[0] != asked:
            self._ready = None  # its tensors go before there are others
            self._ready = asked, self._stages[stage](**arguments)
        run, to_keep = self._ready[1]
        forget_peak()
        times, result = [], None
        for _ in range(calls):
            result = None
            wait()
            start = time.perf_counter()
            result = run()
            wait()
            times.append(time.perf_counter() - start)
        return {"times": times, "peak_gib": peak() / 2**30, "value": to_keep(result) if keep else None}

    def forget(self) -> None:
        """Let go of what is ready: the model changes."""
        self._ready = None
        gc.collect()


def once(action: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """One call of an action, timed."""
    forget_peak()
    start = time.perf_counter()
    value = action(**arguments)
    wait()
    return {"seconds": time.perf_counter() - start, "peak_gib": peak() / 2**30, "value": value}


def wait() -> None:
    """Until the GPU has done what it was given, if this process uses one."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    elif torch.backends.mps.is_available():
        torch.mps.synchronize()


def forget_peak() -> None:
    """Count the most memory from here on, where the system can."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """The most bytes that were in use: on the GPU where this process uses one, else in memory, the program itself included."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated())
    try:
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(status["VmHWM"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return _highest()


def _highest() -> int:
    """Since the process began; 0 where nothing tells."""
    try:
        import resource  # not on Windows
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(file: str) -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to standard error
    sys.path.insert(0, str(Path(file).parent))  # its neighbours, before those of this program
    worker = importlib.import_module(Path(file).stem)
    stages = Stages(getattr(worker, "STAGES", {}))
    for line in sys.stdin:
        answers.write(json.dumps(_answer(worker.ACTIONS, stages, json.loads(line))) + "\n")
        answers.flush()


def _answer(actions: Mapping[str, Callable[..., Any]], stages: Stages, request: dict[str, Any]) -> dict[str, Any]:
    try:
        if "time" in request:
            return stages.time(request.pop("time"), **request)
        stages.forget()
        return once(actions[request.pop("do")], request)
    except NotImplementedError as error:
        return {"cannot": str(error)}
    except ModuleNotFoundError as error:
        traceback.print_exc()
        return {"missing": error.name}
    except Exception as error:  # whatever a library raises is for the other side to tell
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    main(sys.argv[1])
