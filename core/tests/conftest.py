"""Fixtures: an environment without Sonant's variables, fake installed plugins, and the command line in a process of its own."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from sonant import plugins

Install = Callable[..., Path]
Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the variables of whoever runs it."""
    for name in os.environ:
        if name.startswith("SONANT_"):
            monkeypatch.delenv(name)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the import path. What was found and imported there is forgotten afterwards."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    yield folder
    for path in folder.iterdir():
        for name in [n for n in sys.modules if n.split(".")[0] == path.stem]:
            del sys.modules[name]
    plugins.refresh()


@pytest.fixture
def install(site: Path) -> Install:
    """Installs a distribution the way pip leaves it: metadata with an entry point, and modules."""

    def add(
        distribution: str,
        source: str,
        *,
        version: str = "0.1",
        entry: str | None = None,
        value: str | None = None,
        modules: Mapping[str, str] | None = None,
        named: bool = True,
    ) -> Path:
        """`source` is the plugin's module, `modules` are others by name; `named=False` leaves out the METADATA file."""
        module = distribution.replace("-", "_")
        info = site / f"{module}-{version}.dist-info"
        info.mkdir()
        if named:
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n", "utf-8")
        (info / "entry_points.txt").write_text(f"[sonant.plugins]\n{entry or module} = {value or module}\n", "utf-8")
        for name, text in {module: source, **(modules or {})}.items():
            (site / f"{name}.py").write_text(text, "utf-8")
        importlib.invalidate_caches()
        plugins.refresh()
        return info

    return add


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Runs `sonant …` in a process of its own, with the fake plugins of `site`."""

    def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from sonant.cli.main import main; main()", *map(str, arguments)]
        variables = os.environ | {"PYTHONPATH": str(tmp_path / "site-packages")} | environment
        return subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    return run
