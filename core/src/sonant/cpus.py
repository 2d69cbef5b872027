"""How many processors there are to work with."""

from __future__ import annotations

import os


def usable() -> int:
    """The CPUs this process may use, where the system tells; else all there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
