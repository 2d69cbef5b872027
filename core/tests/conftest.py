"""Fixtures: an environment without Sonant's variables, fake installed plugins, the command line (in a process of its own, or in
this one), and a stand-in for the hub with model cards that name it."""

from __future__ import annotations

import importlib
import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import huggingface_hub.hf_api
import pytest
import yaml
from click.testing import CliRunner, Result

import sonant
from checkpoint_cases import BPE
from checkpoint_cases import model as opened
from contract_cases import findable
from sonant import plugins
from sonant.cli.main import COMMANDS, App, app
from stand_in_hub import CONTENT, Hub

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


@pytest.fixture(scope="module")
def contract_path() -> Iterator[None]:
    """The plugins of `data/contract` can be found."""
    with findable():
        yield


@pytest.fixture
def contract_plugins(
    contract_path: None, clean_environment: None, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Those of them that the test's module names in `DISTRIBUTIONS` are installed, and no others."""
    monkeypatch.setenv("SONANT_PLUGINS", request.module.DISTRIBUTIONS)


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Runs `sonant …` in a process of its own, with the fake plugins of `site`."""

    def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from sonant.cli.main import main; main()", *map(str, arguments)]
        variables = os.environ | {"PYTHONPATH": str(tmp_path / "site-packages")} | environment
        return subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    return run


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A running stand-in that holds one repo, `acme/tiny`."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Hub() as running:
        running.repos["acme/tiny"] = [{"README.md": b"# Tiny", "tiny.nemo": CONTENT}]
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()
    huggingface_hub.close_session()


@pytest.fixture
def stand_in(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The stand-in in the place of the hub, in this process; an empty cache."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", server.endpoint)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("SONANT_HOME", str(tmp_path / "sonant"))
    return server


@pytest.fixture
def offline(stand_in: Hub, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Turns the offline mode on (or off), and forgets what was asked until then."""

    def turn(on: bool = True) -> None:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", on)
        stand_in.asked.clear()

    return turn


@pytest.fixture
def card_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a registry with one card, `tiny`, of the given source."""

    def write(requires: list[str] | None = None, **source: Any) -> Path:
        card = {"task": "asr", "summary": "Tiny.", "source": source, "requires": requires or []}
        file = tmp_path / "registry.yaml"
        file.write_text(yaml.safe_dump({"models": {"tiny": card}}), "utf-8")
        return file

    return write


class Command:
    """Runs `sonant …` in this process; anything that would be a traceback fails the test."""

    def __call__(self, *arguments: object, status: int = 0, **environment: str) -> Result:
        command = App("sonant", callback=app.callback, params=app.params, commands=COMMANDS)
        result = CliRunner().invoke(command, [str(a) for a in arguments], env=environment, prog_name="sonant")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == status, result.output
        return result

    def error(self, *arguments: object, status: int = 1, **environment: str) -> str:
        """The one line on standard error, and nothing on standard output."""
        result = self(*arguments, status=status, **environment)
        assert result.stdout == ""
        (line,) = result.stderr.splitlines()
        return line.removeprefix("Error: ")


@pytest.fixture
def command() -> Iterator[Command]:
    """The command line in this process, which is left as it was: commands set its logging and its threads."""
    import torch

    handlers, level, threads = logging.root.handlers[:], logging.root.level, torch.get_num_threads()
    yield Command()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder that a case converts to; not to be changed."""
    top = tmp_path_factory.mktemp("folders")

    @cache
    def folder(name: str) -> Path:
        return sonant.save(opened(name), top / name)

    return folder


@pytest.fixture
def folder(folders: Callable[[str], Path], tmp_path: Path) -> Path:
    """A folder to damage."""
    return Path(shutil.copytree(folders(BPE), tmp_path / "model"))
