"""Runs `sonant`, each time in a process of its own, a fork of this one, which has imported already what takes seconds.

A line of JSON on standard input, `{"arguments": […], "errors": FILE, "most_bytes": N or null}`, begins a run. It is answered with
the number of its process, and, when that has ended, with its exit code. `most_bytes` is the size of a file from which on writing
fails, as on a full disk.
"""

from __future__ import annotations

import json
import os
import resource
import sys

import sonant_training.running.training  # noqa: F401
from sonant.cli.main import main

for line in sys.stdin:
    request = json.loads(line)
    process = os.fork()
    if process == 0:
        os.setsid()  # a process group of its own, as a terminal gives it
        errors = os.open(request["errors"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(errors, 1)
        os.dup2(errors, 2)
        if request["most_bytes"] is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (request["most_bytes"],) * 2)
        sys.argv = ["sonant", *request["arguments"]]
        main()
        sys.exit()
    print(process, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
