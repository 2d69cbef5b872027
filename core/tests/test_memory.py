"""How much memory is free: what the system has, within the limits of the process and of its container."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sonant import memory

GIB = 2**30


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 64 GiB, of which 40 are available, as its files tell."""
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    groups.mkdir()
    (proc / "meminfo").write_text("MemTotal:       67108864 kB\nMemFree:         1048576 kB\nMemAvailable:   41943040 kB\n")
    (proc / "self" / "cgroup").write_text("")
    monkeypatch.setattr(memory, "_PROC", proc)
    monkeypatch.setattr(memory, "_CGROUP", groups)
    return tmp_path


def free() -> int | None:
    return memory.free(torch.device("cpu"))


def test_without_a_limit_it_is_what_the_system_has(system: Path) -> None:
    assert free() == 40 * GIB


def test_a_container_s_limit_counts(system: Path) -> None:
    """Version 2 of control groups; pages of files can be given back."""
    (system / "proc" / "self" / "cgroup").write_text("0::/jobs/one\n")
    for name, most, used, files in (("jobs", 30 * GIB, 20 * GIB, 1 * GIB), ("jobs/one", "max", 5 * GIB, 0)):
        group = system / "cgroup" / name
        group.mkdir()
        (group / "memory.max").write_text(f"{most}\n")
        (group / "memory.current").write_text(f"{used}\n")
        (group / "memory.stat").write_text(f"anon 5\ninactive_file {files}\n")
    assert free() == 11 * GIB
    (system / "cgroup" / "jobs" / "one" / "memory.max").write_text(f"{6 * GIB}\n")
    assert free() == 1 * GIB


def test_so_does_one_of_version_1(system: Path) -> None:
    (system / "proc" / "self" / "cgroup").write_text("5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n")
    group = system / "cgroup" / "memory" / "docker" / "abc"
    group.mkdir(parents=True)
    (group / "memory.limit_in_bytes").write_text(str(8 * GIB))
    (group / "memory.usage_in_bytes").write_text(str(6 * GIB))
    (group / "memory.stat").write_text("cache 1\ntotal_inactive_file 0\n")
    assert free() == 2 * GIB


def test_a_container_that_sees_its_group_as_the_root(system: Path) -> None:
    """Inside, the path names nothing that is mounted, and the limit stands at the root."""
    (system / "proc" / "self" / "cgroup").write_text("0::/docker/abc\n")
    (system / "cgroup" / "memory.max").write_text(str(3 * GIB))
    (system / "cgroup" / "memory.current").write_text(str(4 * GIB))
    assert free() == 0


def test_what_is_here_is_a_part_of_all_there_is() -> None:
    found = free()
    assert found is not None and 0 < found < 2**50


@pytest.mark.skipif(sys.platform != "linux", reason="`ulimit -v` is kept on Linux alone")
def test_a_limit_of_the_process_counts_and_shrinks_with_use() -> None:
    script = """
import resource, torch
from sonant import memory
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, resource.RLIM_INFINITY))
before = memory.free(torch.device("cpu"))
kept = torch.ones(2**27)
print(before, memory.free(torch.device("cpu")))
"""
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    before, after = np.array(answer.stdout.split(), dtype=np.int64)
    assert 0.9 * GIB < before <= GIB
    assert abs(before - after - 2**29) < 2**26
