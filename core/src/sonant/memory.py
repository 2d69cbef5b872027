"""How much memory a device has left, as far as the system tells."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch

_PROC, _CGROUP = Path("/proc"), Path("/sys/fs/cgroup")
_KIB = 1024


def free(device: torch.device) -> int | None:
    """Bytes that can be allocated on `device` now; None where nothing tells.

    On a CPU the least of what the system has available and what the limits of the process (`ulimit -v`) and of its
    container (cgroups) leave it. On a GPU what the driver has, and what PyTorch holds and does not use.
    """
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + cached)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    if device.type != "cpu":
        return None
    known = [size for size in (_available(_PROC), _within_limit(_PROC), *_within_cgroups(_PROC, _CGROUP)) if size is not None]
    return max(0, min(known)) if known else None


def _available(proc: Path) -> int | None:
    """Of the whole system: what Linux estimates, or else all there is."""
    for name, value in _table(proc / "meminfo", ":"):
        if name == "MemAvailable":
            return int(value.split()[0]) * _KIB
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf, others not these names
        return None


def _within_limit(proc: Path) -> int | None:
    """What is left below the process's limit on its address space."""
    try:
        import resource  # not on Windows

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return None
        return limit - int((proc / "self" / "statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (ImportError, OSError, ValueError, IndexError):
        return None


def _within_cgroups(proc: Path, root: Path) -> Iterator[int]:
    """What is left in each control group that the process is in, from its own to the root; pages of files count as free."""
    for line in _lines(proc / "self" / "cgroup"):
        _, controllers, name = line.split(":", 2) if line.count(":") >= 2 else ("", "-", "")
        if controllers == "":  # version 2
            base, limit, usage, cached = root, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            base, limit, usage, cached = (
                root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
            )  # fmt: skip
        else:
            continue
        folder = base / name.strip("/")
        for place in (folder, *(parent for parent in folder.parents if parent.is_relative_to(base))):
            most, used = _number(place / limit), _number(place / usage)
            if most is not None and used is not None:
                files = dict(_table(place / "memory.stat", " ")).get(cached, "0")
                yield most - used + (int(files) if files.isdecimal() else 0)


def _number(path: Path) -> int | None:
    """What a file of one number holds; `max` is none."""
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdecimal() else None


def _table(path: Path, separator: str) -> Iterator[tuple[str, str]]:
    for line in _lines(path):
        name, _, value = line.partition(separator)
        yield name, value.strip()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
