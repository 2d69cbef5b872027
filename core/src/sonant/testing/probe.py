"""Run as a script: what importing a plugin's light modules costs, and whether it brings in torch.

Reads a job from standard input and answers with JSON on standard output.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
import time
import traceback
from typing import Any


class Watch:
    """A finder that finds nothing and notes who first asks for torch."""

    asker: str | None = None

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Called for every module that is imported."""
        if name == "torch" and self.asker is None:
            frames = [f for f in traceback.extract_stack() if "importlib" not in f.filename and f.filename != __file__]
            self.asker = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown"


def main() -> None:
    """Import what the job names, with the job's `sys.path`."""
    job, answer = json.load(sys.stdin), sys.stdout
    sys.stdout = sys.stderr  # what the plugin prints is no part of the answer
    sys.path[:] = job["path"]
    importlib.import_module("sonant.hooks")  # not the plugin's own cost
    importlib.import_module("sonant.spec")
    watch = Watch()
    sys.meta_path.insert(0, watch)
    start = time.process_time()  # not what other processes make it wait for
    importlib.import_module(job["plugin"])
    seconds = time.process_time() - start
    for module in job["configs"]:
        with contextlib.suppress(Exception, SystemExit):  # each component's own checks report it
            importlib.import_module(module)
    print(json.dumps({"seconds": seconds, "torch": watch.asker if "torch" in sys.modules else None}), file=answer)


if __name__ == "__main__":
    main()
