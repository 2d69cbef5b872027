"""Somebody else's plugin: built as a wheel, installed by pip, and used by name like any other."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from attrs import frozen

import sonant
from sonant.checkpoint import FOLDER_CONFIG
from sonant.errors import UnknownName
from sonant.testing import contract

ROOT = Path(__file__).resolve().parent.parent
ACME = ROOT / "tests" / "data" / "acme-speech"
WAV = ROOT / "tests" / "nemo-cases" / "a.wav"

USE = """
import json, sys
import sonant, torch

model = sonant.build("model.yaml", encoder={"n_layers": 3}).eval()
sonant.save(model, "model")
again = sonant.load("model", device="cpu", dtype="float32")
first, second = (m.transcribe(sys.argv[1])[0] for m in (model, again))
same = all(torch.equal(t, again.state_dict()[name]) for name, t in model.state_dict().items())
print(json.dumps({
    "class": type(again.encoder).__module__ + "." + type(again.encoder).__name__,
    "blocks": len(again.encoder.blocks),
    "same weights": same and len(model.state_dict()) == len(again.state_dict()),
    "same text": first == second,
    "tokens": len(first.tokens),
}))
"""


def _block(language: str) -> str:
    """The README's code in a language: what it tells its users must be true."""
    found = re.findall(rf"```{language}\n(.*?)```", (ACME / "README.md").read_text("utf-8"), re.DOTALL)
    assert len(found) == 1
    return str(found[0])


@frozen
class Site:
    """A folder of installed packages on the import path, and one to work in."""

    packages: Path
    work: Path

    def python(self, *arguments: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SONANT_")} | {"PYTHONPATH": str(self.packages)}
        done = subprocess.run(
            [sys.executable, *map(str, arguments)], cwd=self.work, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done

    def sonant(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        return self.python("-c", "from sonant.cli.main import main; main()", *arguments, status=status)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Where the wheel of acme-speech is installed and a config names its encoder."""
    folder = tmp_path_factory.mktemp("acme")
    (folder / "work").mkdir()
    site = Site(folder / "packages", folder / "work")
    pip = ("-m", "pip", "--disable-pip-version-check", "--quiet")
    site.python(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ACME)
    (wheel,) = folder.glob("*.whl")
    site.python(*pip, "install", "--no-deps", "--no-index", "--target", site.packages, wheel)
    (site.work / "model.yaml").write_text(_block("yaml"), "utf-8")
    (site.work / "test_contract.py").write_text(_block("python"), "utf-8")
    return site


def test_its_components_are_listed_and_described(site: Site) -> None:
    listed = json.loads(site.sonant("components", "encoder", "--json").stdout)
    plugins = {row["name"]: row["plugin"] for row in listed}
    assert plugins["acme/depthwise"] == "acme-speech 0.2.0"
    assert "fastconformer" in plugins
    described = site.sonant("describe", "encoder", "acme/depthwise").stdout
    assert "encoder acme/depthwise (acme-speech 0.2.0)" in described
    assert re.search(r"kernel_size +int +9 +frames, odd", described)


def test_a_config_names_it(site: Site) -> None:
    shown = yaml.safe_load(site.sonant("config", "show", "model.yaml", "encoder.n_layers=2").stdout)
    assert shown["encoder"] == {"name": "acme/depthwise", "width": 48, "n_layers": 2, "kernel_size": 9, "subsampling": 4}
    refused = site.sonant("config", "show", "model.yaml", "encoder.kernel=5", status=1).stderr
    assert "encoder.kernel" in refused
    assert "Did you mean 'kernel_size'" in refused


def test_a_model_with_it_is_built_saved_and_opened_again(site: Site) -> None:
    found = json.loads(site.python("-c", USE, WAV).stdout)
    assert found.pop("tokens") > 0
    assert found == {"class": "acme_speech.encoder.DepthwiseEncoder", "blocks": 3, "same weights": True, "same text": True}
    saved = yaml.safe_load((site.work / "model" / FOLDER_CONFIG).read_text("utf-8"))
    assert saved["encoder"]["name"] == "acme/depthwise"
    with pytest.raises(UnknownName, match=r"no encoder named 'acme/depthwise'.*saved with .*acme-speech 0\.2\.0"):
        sonant.load(site.work / "model")  # this process does not have the plugin


def test_it_keeps_the_contract(site: Site) -> None:
    reports = json.loads(site.sonant("plugins", "--check", "--json", "acme-speech").stdout)["checks"]
    assert [r for r in reports if r["outcome"] == "failed"] == []
    assert [(r["check"], r["detail"]) for r in reports if r["outcome"] == "skipped"] == [
        ("encoder acme/depthwise: streaming equals offline", "does not stream")
    ]
    assert len(reports) == len(contract.EVERY_PLUGIN) + len(contract.EVERY_KIND) + len(contract.BY_KIND["encoder"])
    tested = site.python("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_contract.py").stdout
    assert re.search(rf"^{len(reports) - 1} passed, 1 skipped", tested, re.MULTILINE)
