"""`sonant new-plugin`: what it writes is clean, is understood as it stands, and passes its own tests in a fresh environment."""

from __future__ import annotations

import ast
import importlib
import json
import math
import subprocess
import sys
import tomllib
import xml.etree.ElementTree
import zipfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from packaging.requirements import Requirement

import sonant
from doc_blocks import blocks, metadata
from fresh_environment import create, run
from sonant import config, plugins, scaffold
from sonant.cli.main import app
from sonant.spec import KINDS

ROOT = Path(__file__).resolve().parent.parent
MOST_GLUE = 15
NAMES = {kind: f"{kind.replace('_', '')}-lab" for kind in KINDS} | {"codec": "Codec.Lab_2"}  # each with a vendor of its own
ALL = "every-kind"

kinds = pytest.mark.parametrize("kind", KINDS)


def _new(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["new-plugin", *map(str, arguments)], prog_name="sonant")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a package for every kind, and one with all of them."""
    folder = tmp_path_factory.mktemp("written")
    for kind, name in NAMES.items():
        done = _new(name, "--kind", kind, "--into", folder / name)
        assert done.exit_code == 0, done.output
    scaffold.write(scaffold.plan(ALL, KINDS), folder / ALL)
    return folder


def _source(project: Path) -> Path:
    return project / "src" / scaffold.plan(project.name).module


# What is written


def test_lint_format_and_types(written: Path) -> None:
    """By the settings that the packages themselves bring."""
    tool = (sys.executable, "-m")
    for command in (("ruff", "check"), ("ruff", "format", "--check")):
        done = subprocess.run([*tool, *command, "--no-cache", written], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run([*tool, "mypy", "--cache-dir", written / "mypy"], cwd=written / ALL, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@kinds
def test_light_modules_import_no_torch(kind: str, written: Path) -> None:
    """What is imported to list and describe components; the contract suite runs it, this reads it."""
    source = _source(written / NAMES[kind])
    allowed = {"plugin.py": {"sonant"}, "config.py": {"attrs"}}
    light = [path for path in source.rglob("*.py") if path.name in allowed]
    assert len(light) == 1 + len({kind, *scaffold.PARTNERS.get(kind, ())})
    for path in light:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
                roots = {name.partition(".")[0] for name in names}
                assert roots <= {*sys.stdlib_module_names, *allowed[path.name]}, f"{path} imports {names}"


def _glue(project: Path) -> list[str]:
    """The lines that a contributor owes to Sonant, beside the component, its config and what every package states."""
    plugin = (_source(project) / "plugin.py").read_text("utf-8").splitlines()
    described = (project / "pyproject.toml").read_text("utf-8").splitlines()
    lines = plugin + [line for line in described if line.startswith(("dependencies", "entry-points"))]
    return [line for line in lines if line.strip() and not line.strip().startswith("#")]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in scaffold.PARTNERS])
def test_little_glue(kind: str, written: Path) -> None:
    glue = "\n".join(_glue(written / NAMES[kind]))
    for needed in ('dependencies = ["sonant>=', '"sonant.plugins"', "SONANT_API = 1", "@hookimpl", "target=", "config="):
        assert needed in glue
    assert len(glue.splitlines()) <= MOST_GLUE, glue


def test_requirements_and_entry_point(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tomllib.loads((written / NAMES["encoder"] / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["entry-points"] == {"sonant.plugins": {"encoder-lab": "encoder_lab.plugin"}}
    for version, newer, too_new in [
        (sonant.__version__, "0.1.9", "0.2.0"),
        ("0.12.3", "0.12.4", "0.13"),
        ("2.3.1", "2.9", "3.0"),
    ]:
        monkeypatch.setattr(sonant, "__version__", version)
        text = scaffold.render(scaffold.plan("acme-speech"))["pyproject.toml"]
        (needed,) = map(Requirement, tomllib.loads(text)["project"]["dependencies"])
        assert needed.name == "sonant"
        assert version in needed.specifier
        assert newer in needed.specifier
        assert too_new not in needed.specifier


def test_continuous_integration_runs_what_the_readme_says(written: Path) -> None:
    workflow = yaml.safe_load((written / NAMES["loss"] / ".github" / "workflows" / "test.yml").read_text("utf-8"))
    steps = [step["run"] for step in workflow["jobs"]["test"]["steps"] if "run" in step]
    readme = (written / NAMES["loss"] / "README.md").read_text("utf-8")
    for command in ('pip install -e ".[test]"', "pytest", "sonant plugins --check loss-lab"):
        assert command in steps
        assert f"\n{command}\n" in readme


# What is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-acme"], "No such option"),
        (["acme speech"], "'acme speech' cannot be the name of a distribution"),
        (["acme_"], "'acme_' cannot be the name of a distribution"),
        (["3d-tts"], "'3d-tts' would be imported as '3d_tts', which must not begin with a digit; choose another name, as"),
        (["json"], "'json' would be imported as 'json', which Python has already; choose another name, as my-json"),
        (["Sonant"], "'Sonant' would be taken for a part of Sonant itself; choose another name"),
        (["sonant.lab"], "'sonant.lab' would be taken for a part of Sonant itself; choose another name, as my-sonant-lab"),
        (["NumPy"], f"'NumPy' is installed already ({np.__version__}); choose another name, as my-numpy"),
        (["yaml"], "'yaml' would be imported as 'yaml', which is installed already; choose another name, as my-yaml"),
        (["acme-speech", "--vendor", "Acme"], "'Acme' cannot stand before component names"),
        (
            ["acme-speech", "--kind", "encodr"],
            "no kind named 'encodr'. Did you mean 'encoder'? The kinds are task,",
        ),
    ],
)
def test_names_that_cannot_be(arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = _new(*arguments)
    assert done.exit_code != 0
    assert message in done.output
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "acme-speech"
    (folder / ".git").mkdir(parents=True)
    assert _new("acme-speech", "--into", folder).exit_code == 0, "a repository without files is as good as empty"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = _new("acme-speech", "--kind", "loss", "--into", folder)
    assert done.exit_code == 1
    assert f"{folder} is there already and not empty: name another folder with --into, and copy from there" in done.output
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_names_that_follow_from_the_distribution() -> None:
    package = scaffold.plan("Acme.Speech-Tools", ["search"])
    assert (package.module, package.vendor, package.kinds) == ("acme_speech_tools", "acme", ("decoder", "search"))
    assert scaffold.components(scaffold.plan("speech", ["loss"], vendor="acme")) == [("loss", "acme/smooth_ctc")]


# Used in this process


@pytest.fixture(scope="module")
def installed(written: Path) -> Iterator[str]:
    """The package of all kinds, found as if pip had installed it; the name it is imported by."""
    package = ALL.replace("-", "_")
    source = metadata(written / ALL)
    sys.path.insert(0, str(source))
    importlib.invalidate_caches()
    plugins.refresh()
    yield package
    sys.path.remove(str(source))
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]
    plugins.refresh()


def test_configs_of_the_readme(installed: str, written: Path, tmp_path: Path) -> None:
    """Every section of every example names a component that takes its fields; whole models fill."""
    seen = set()
    for block in blocks(written / ALL / "README.md"):
        if block.language == "yaml":
            data = yaml.safe_load(block.text)
            if "task" in data:
                config.fill_model(data)
            for kind, section in _sections(data):
                name = section if isinstance(section, str) else section["name"]
                if name.startswith("every/"):
                    config.fill_section(kind, section, kind)
                    seen.add(kind)
    assert seen == set(KINDS)


def _sections(data: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, section in data.items():
        if key == "optim":
            values = dict(section)
            if "sched" in values:
                yield "scheduler", values.pop("sched")
            yield "optimizer", values
        elif key == "loss" or key not in config.TRAINING_SECTIONS:
            yield key, section


def _built(package: str, kind: str, name: str, fields: dict[str, Any] | None = None, **sizes: Any) -> Any:
    component = config.fill_section(kind, {"name": f"every/{name}"} | (fields or {}), kind)
    return config.load_target(component.component.spec.target, kind)(component.config, **sizes)


def test_log_power_is_the_transform_by_its_definition(installed: str) -> None:
    built = _built(installed, "preprocessor", "log_power", {"window": 16, "hop": 6, "floor": 1e-3})
    wav = np.random.default_rng(0).standard_normal(40)
    feats, frames = built(torch.tensor(wav, dtype=torch.float32)[None], torch.tensor([40]))
    assert frames.tolist() == [math.ceil(40 / 6)]
    padded, n = np.concatenate([wav, np.zeros(16)]), np.arange(16)
    for t, k in product(range(7), range(9)):
        frame = padded[6 * t : 6 * t + 16] * (0.5 - 0.5 * np.cos(2 * np.pi * n / 16))
        power = abs(np.sum(frame * np.exp(-2j * np.pi * k * n / 16))) ** 2
        assert float(feats[0, t, k]) == pytest.approx(math.log(power + 1e-3), abs=1e-4)


def test_smooth_ctc_is_the_sum_over_all_paths(installed: str) -> None:
    """Enumerated: 4 frames, 2 labels and the blank."""
    torch.manual_seed(0)
    logits, smoothing = torch.randn(1, 4, 3, dtype=torch.float64), 0.3
    built = _built(installed, "loss", "smooth_ctc", {"smoothing": smoothing})
    found = built(logits.float(), torch.tensor([4]), torch.tensor([[1, 0]]), torch.tensor([2]))
    p = logits[0].softmax(-1).numpy()
    paths = [path for path in product(range(3), repeat=4) if _labels(path) == [1, 0]]
    likelihood = sum(math.prod(p[t, label] for t, label in enumerate(path)) for path in paths)
    divergence = np.mean(np.sum(1 / 3 * np.log(1 / 3 / p), axis=-1))
    assert float(found) == pytest.approx((1 - smoothing) * -math.log(likelihood) / 2 + smoothing * divergence, rel=1e-5)


def _labels(path: tuple[int, ...]) -> list[int]:
    return [label for label, before in zip(path, (None, *path), strict=False) if label not in (2, before)]


def test_best_path(installed: str) -> None:
    built = _built(installed, "search", "best_path", {"blank_penalty": 1.0})
    rows = torch.tensor([[[0.0, 5, 0], [0, 5, 0], [0, 0, 5], [0, 5, 0], [3, 0, 3.5], [9, 0, 0]]])
    (found,) = built(lambda enc: enc, rows, torch.tensor([5]))
    assert (found.tokens, found.starts, found.ends) == ((1, 1, 0), (0, 3, 4), (2, 4, 5)), "the blank's lead of 0.5 is less than 1"
    assert found.score == pytest.approx(sum(float(rows[0, t].log_softmax(-1)[k]) for t, k in enumerate([1, 1, 2, 1, 0])))


def test_lion_steps_by_the_sign_of_its_momentum(installed: str) -> None:
    """Algorithm 2 of Chen et al., 2023, on scalars."""
    rates = {"lr": 0.1, "beta1": 0.9, "beta2": 0.5, "weight_decay": 0.2}
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
    built = _built(installed, "optimizer", "lion", rates, params=[weight])
    expected, momentum = weight.detach().numpy().astype(np.float64), np.zeros(3)
    for gradient in ([1.0, -1, 3], [-0.05, 4, -9], [0.3, 0.3, 0.3]):
        weight.grad = torch.tensor(gradient)
        built.step()
        direction = np.sign(0.9 * momentum + 0.1 * np.array(gradient))
        expected = expected - 0.1 * (direction + 0.2 * expected)
        momentum = 0.5 * momentum + 0.5 * np.array(gradient)
        np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-5)


def test_inverse_square_root_after_the_warm_up(installed: str) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    built = _built(installed, "scheduler", "inverse_sqrt", {"warmup_steps": 4, "floor": 0.6}, optimizer=optimizer)
    rates = []
    for _ in range(20):
        rates += built.get_last_lr()
        optimizer.step()
        built.step()
    wanted = [2 * n / 4 for n in range(1, 4)] + [2 * max(0.6, math.sqrt(4 / n)) for n in range(4, 21)]
    assert rates == pytest.approx(wanted)


def test_agglomerative_finds_groups_and_keeps_to_a_number(installed: str) -> None:
    torch.manual_seed(0)
    centres = torch.eye(8)[:3]
    speakers = torch.tensor([2, 0, 0, 1, 2, 1, 0, 2])
    embeddings = 5 * centres[speakers] + 0.3 * torch.randn(8, 8)
    built = _built(installed, "clusterer", "agglomerative", {"threshold": 0.5})
    found = built(embeddings)
    assert found.unique().tolist() == [0, 1, 2]
    assert (found[:, None] == found).equal(speakers[:, None] == speakers)
    for number in (1, 2, 5, 8):
        assert built(embeddings, n_speakers=number).unique().tolist() == list(range(number))


def test_codec_quantizes_what_is_left_over(installed: str) -> None:
    """Each further codebook, trained by nobody, takes the nearest entry to the rest: found by trying all."""
    torch.manual_seed(0)
    tiny = {"sample_rate": 800, "d_model": 4, "strides": [2, 5], "n_codebooks": 2, "codebook_size": 6}
    built = _built(installed, "codec", "residual_vq", tiny).eval()
    vectors = torch.randn(1, 3, 4)
    with torch.no_grad():
        codes, entries = built._quantize(vectors)
        for t in range(3):
            rest = vectors[0, t]
            for level, book in enumerate(built.codebooks):
                nearest = min(range(6), key=lambda k: float((rest - book[k]).norm()))
                assert int(codes[0, t, level]) == nearest
                rest = rest - book[nearest]
            torch.testing.assert_close(entries[0, t], vectors[0, t] - rest)


def test_a_model_of_new_parts_transcribes(installed: str) -> None:
    """Its tokenizer, encoder, decoder and search beside the task and the features that are here."""
    sections: dict[str, Any] = {
        "task": "asr",
        "preprocessor": "log_mel",
        "augmentation": "every/time_mask",
        "tokenizer": "every/bytes",
        "encoder": {"name": "every/convnext", "d_model": 16, "n_layers": 1},
        "decoder": {"name": "every/ctc_mlp", "d_hidden": 8},
        "search": {"name": "every/best_path", "blank_penalty": 20.0},
    }
    model: Any = sonant.build(sections).eval()
    (found,) = model.transcribe(ROOT / "tests" / "nemo-cases" / "a.wav", timestamps="char")
    assert found.tokens
    assert found.chars


def test_a_clip_gets_one_of_the_labels(installed: str) -> None:
    model: Any = sonant.build(
        {
            "task": {"name": "every/clip_label", "labels": ["cat", "dog"]},
            "preprocessor": "every/log_power",
            "encoder": {"name": "every/convnext", "d_model": 16, "n_layers": 1},
        }
    ).eval()
    (found,) = model.classify(ROOT / "tests" / "nemo-cases" / "a.wav")
    assert found.label in ("cat", "dog")
    assert found.scores[found.label] == max(found.scores.values())
    assert sum(found.scores.values()) == pytest.approx(1.0)


# Installed in a fresh environment

SUITES = """
import os, sys
import pytest
from sonant import plugins

for name in sys.argv[1:]:
    os.environ["SONANT_PLUGINS"] = name  # beside the core alone
    plugins.refresh()
    options = ["-q", "-p", "no:cacheprovider", "-W", "error", "--import-mode=importlib", "--rootdir=.", f"--junitxml={name}.xml"]
    pytest.main([*options, f"{name}/tests"])
"""

NO_PARAMETERS = "gradients reach every parameter: has no parameters to train"
SKIPPED = {
    "preprocessor": {"streaming equals offline: does not stream", NO_PARAMETERS},
    "augmentation": {NO_PARAMETERS},
    "encoder": {"streaming equals offline: does not stream"},
    "decoder": {"streaming equals one pass: does not stream"},
    "search": {"streaming equals one pass: does not stream"},
    "loss": {NO_PARAMETERS},
}


@pytest.fixture(scope="module")
def wheels(written: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheels of the core and of every package, by their normalized names."""
    folder = tmp_path_factory.mktemp("wheels")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    projects = [ROOT / "core", *(written / name for name in NAMES.values())]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder, *projects)
    return {path.name.partition("-")[0]: path for path in folder.glob("*.whl")}


@pytest.fixture(scope="module")
def elsewhere(written: Path, wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of an environment with those wheels, in which every package's tests have run."""
    programs = create(tmp_path_factory.mktemp("elsewhere") / "venv", *wheels.values())
    run(programs / "python", "-c", SUITES, *NAMES.values(), cwd=written, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    return programs


@kinds
def test_its_wheel_is_complete(kind: str, wheels: dict[str, Path], written: Path) -> None:
    source = _source(written / NAMES[kind])
    with zipfile.ZipFile(wheels[source.name]) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == {path.relative_to(source.parent).as_posix() for path in source.rglob("*") if path.is_file()}
    assert f"{source.name}/py.typed" in held


def test_all_are_installed(elsewhere: Path, tmp_path: Path) -> None:
    report = json.loads(run(elsewhere / "sonant", "plugins", "--json", cwd=tmp_path))
    assert {p["distribution"]: p["status"] for p in report["plugins"]} == dict.fromkeys(NAMES.values(), "ok")
    assert report["conflicts"] == []


@kinds
def test_its_own_tests_pass(kind: str, elsewhere: Path, written: Path) -> None:
    (suite,) = xml.etree.ElementTree.parse(written / f"{NAMES[kind]}.xml").iter("testsuite")
    cases = list(suite.iter("testcase"))
    failed = [f"{case.get('name')}: {fault.get('message')}" for case in cases for fault in case if fault.tag != "skipped"]
    assert not failed
    present = {kind, *scaffold.PARTNERS.get(kind, ())}
    for each in present:
        ran = [case for case in cases if str(case.get("name")).startswith(f"test_contract[{each} ")]
        assert len(ran) >= 8, f"the suite has {len(ran)} cases for the {each}"
    skipped = {_skip(case, reason) for case in cases for reason in case.iter("skipped")}
    assert skipped == {skip for each in present for skip in SKIPPED.get(each, ())}


def _skip(case: xml.etree.ElementTree.Element, reason: xml.etree.ElementTree.Element) -> str:
    """`promise: why it does not apply`"""
    name = str(case.get("name")).removeprefix("test_contract[").removesuffix("]")
    return f"{name.partition(': ')[2]}: {reason.get('message')}"
