"""Each distribution builds a wheel and an sdist that are complete and work outside the checkout, with few dependencies."""

from __future__ import annotations

import email
import json
import shutil
import sys
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import pytest
from attrs import frozen
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fresh_environment import create, run

ROOT = Path(__file__).resolve().parent.parent
CASES = ROOT / "tests" / "nemo-cases"
FOLDERS = {
    "sonant": ROOT / "core",
    "sonant-features": ROOT / "plugins" / "features",
    "sonant-encoders": ROOT / "plugins" / "encoders",
    "sonant-asr": ROOT / "plugins" / "asr",
    "sonant-model-en-small": ROOT / "models" / "en-small",
}
DATA = {
    "sonant": ["registry.yaml"],
    "sonant-asr": ["cards.yaml"],
    "sonant-model-en-small": ["cards.yaml", "model/model.safetensors", "model/lm.arpa.gz"],
}
LICENSES = {"sonant-model-en-small": ["LICENSE", "COPYRIGHT-DATA"]}
CUDA = ("nvidia-", "cuda-", "triton", "pytorch-triton")

distributions = pytest.mark.parametrize("name", FOLDERS)


@frozen
class Built:
    """One distribution: its sdist, the wheel built from the checkout, and the wheel built from the sdist."""

    sdist: Path
    wheel: Path
    wheel_of_sdist: Path


def _build(name: str, out: Path) -> Built:
    build = (sys.executable, "-m", "build", "--no-isolation", FOLDERS[name])
    run(*build, "--wheel", "--outdir", out / "checkout")
    run(*build, "--outdir", out / "sdist")  # an sdist, and a wheel from what it holds
    (wheel,), (sdist,) = (out / "checkout").glob("*.whl"), (out / "sdist").glob("*.tar.gz")
    (wheel_of_sdist,) = (out / "sdist").glob("*.whl")
    return Built(sdist, wheel, wheel_of_sdist)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    """Every distribution, built once."""
    folder = tmp_path_factory.mktemp("built")
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(FOLDERS, pool.map(lambda name: _build(name, folder / name), FOLDERS), strict=True))


def _sources(name: str) -> set[str]:
    """The files of the import package, relative to `src/`."""
    source = FOLDERS[name] / "src"
    return {p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file() and p.suffix != ".pyc"}


@distributions
def test_wheel_holds_the_package_and_nothing_else(name: str, built: dict[str, Built]) -> None:
    module = name.replace("-", "_")
    with zipfile.ZipFile(built[name].wheel) as wheel:
        files = set(wheel.namelist())
        metadata_files = {f for f in files if f.startswith(f"{module}-")}
        assert files - metadata_files == _sources(name)
        for notice in LICENSES.get(name, ["LICENSE"]):
            assert any(f.endswith(f"licenses/{notice}") for f in metadata_files)
        for data in ("py.typed", *DATA.get(name, [])):
            assert wheel.read(f"{module}/{data}") == (FOLDERS[name] / "src" / module / data).read_bytes()


@distributions
def test_sdist_holds_the_sources_and_no_tests(name: str, built: dict[str, Built]) -> None:
    with tarfile.open(built[name].sdist) as sdist:
        members = {m.name.partition("/")[2]: m for m in sdist.getmembers()}
    assert all(m.isreg() for m in members.values()), "links do not survive everywhere"
    assert {n for n in members if n.startswith("src/")} == {f"src/{f}" for f in _sources(name)}
    others = {n for n in members if not n.startswith("src/")}
    assert others - {".gitignore"} == {*LICENSES.get(name, ["LICENSE"]), "README.md", "pyproject.toml", "PKG-INFO"}


@distributions
def test_wheel_of_the_sdist_equals_the_wheel_of_the_checkout(name: str, built: dict[str, Built]) -> None:
    def content(path: Path) -> dict[str, bytes]:
        with zipfile.ZipFile(path) as wheel:
            return {n: wheel.read(n) for n in wheel.namelist()}

    assert content(built[name].wheel_of_sdist) == content(built[name].wheel)


@distributions
def test_metadata(name: str, built: dict[str, Built]) -> None:
    with zipfile.ZipFile(built[name].wheel) as wheel:
        (path,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
        headers = email.message_from_bytes(wheel.read(path))
    assert headers["Name"] == name
    assert headers["License-Expression"].startswith("Apache-2.0")
    assert headers["Requires-Python"] == ">=3.11"
    requirements = [Requirement(r) for r in headers.get_all("Requires-Dist") or ()]
    assert len([r for r in requirements if r.marker is None]) <= 8, requirements  # extras are for whoever wants them
    if name != "sonant":
        (core,) = (r for r in requirements if r.name == "sonant")
        assert headers["Version"] in core.specifier
        assert not core.specifier.contains("1.0"), "a plugin names the releases of the core it was written for"


@pytest.fixture(scope="module")
def elsewhere(built: dict[str, Built], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of a fresh environment with the wheels."""
    return create(tmp_path_factory.mktemp("elsewhere") / "venv", *(b.wheel_of_sdist for b in built.values()))


def test_installed_wheels_do_not_use_the_checkout(elsewhere: Path, tmp_path: Path) -> None:
    modules = [name.replace("-", "_") for name in FOLDERS]
    code = f"import importlib, json, sys; print(json.dumps([[importlib.import_module(m).__file__ for m in {modules}], sys.path]))"
    files, path = json.loads(run(elsewhere / "python", "-c", code, cwd=tmp_path))
    assert all(Path(f).is_relative_to(elsewhere.parent) for f in files)
    assert not any(p and Path(p).is_relative_to(ROOT) for p in path)


def test_installed_wheels_list_their_plugins(elsewhere: Path, tmp_path: Path) -> None:
    report = json.loads(run(elsewhere / "sonant", "plugins", "--json", cwd=tmp_path))
    assert {p["distribution"]: p["status"] for p in report["plugins"]} == {name: "ok" for name in FOLDERS if name != "sonant"}
    models = json.loads(run(elsewhere / "sonant", "models", "--json", cwd=tmp_path))
    assert "parakeet-tdt-0.6b-v2" in {m["name"] for m in models}


def test_installed_wheels_transcribe(elsewhere: Path, tmp_path: Path) -> None:
    for name in ("a.wav", "fastconformer_tdt_bpe.nemo"):
        shutil.copy(CASES / name, tmp_path)
    command = ("transcribe", "a.wav", "--model", "fastconformer_tdt_bpe.nemo", "--device", "cpu")
    assert run(elsewhere / "sonant", *command, cwd=tmp_path).strip() == "front center rear left"


def _closure(names: list[str]) -> set[str]:
    """Every installed distribution that `names` need, themselves included, without extras nobody asked for."""
    found: set[tuple[str, str]] = set()  # with each extra that is asked for
    waiting = [(n, "") for n in names]
    while waiting:
        name, extra = waiting.pop()
        if name.startswith(CUDA) or (name, extra) in found:
            continue
        found.add((name, extra))
        for needed in map(Requirement, metadata.requires(name) or ()):
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(needed.name), e) for e in ("", *needed.extras)]
    return {name for name, _ in found}


def test_few_packages_are_installed() -> None:
    found = _closure(list(FOLDERS))
    print(f"{len(found)} packages without CUDA's own: {', '.join(sorted(found))}")
    assert {"torch", "numpy", "sentencepiece"} <= found
    assert len(found) <= 40, sorted(found)
