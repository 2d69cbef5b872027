"""When and where a measurement was made."""

from __future__ import annotations

import datetime
import platform
from pathlib import Path


def about() -> dict[str, str]:
    """The date, the machine and the Python of this process."""
    return {"date": datetime.date.today().isoformat(), "machine": processor(), "python": platform.python_version()}


def processor() -> str:
    """How many cores there are, and whose."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        flags = next((line for line in lines if line.startswith("flags")), "")
        return f"{len(names)} cores, {names[0]}{', AMX' if 'amx_tile' in flags else ''}"
    except (OSError, IndexError):
        return platform.processor() or platform.machine()
