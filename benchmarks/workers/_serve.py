"""The loop of a worker: one JSON request a line on standard input, one JSON answer a line on standard output."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any


def serve(actions: dict[str, Callable[..., Any]]) -> None:
    """Answer `{"do": name, …arguments}` with `{"seconds": …, "value": …, "peak_gib": …}` until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to standard error
    for line in sys.stdin:
        request = json.loads(line)
        action = actions[request.pop("do")]
        start = time.perf_counter()
        value = action(**request)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        answers.write(json.dumps({"seconds": seconds, "value": value, "peak_gib": peak}) + "\n")
        answers.flush()
