"""A component that its plugin calls deprecated: configs that name it are warned, saved models open in silence."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import sonant

Install = Callable[..., Path]

PLUGIN = """\
from sonant import ComponentSpec, hookimpl
SONANT_API = 1

@hookimpl
def sonant_components():
    def mean(name, deprecated=""):
        return ComponentSpec(kind="encoder", name=name, target="acme_mean:Mean", config="acme_mean:MeanConfig", doc="Means.",
                             deprecated=deprecated)
    return [mean("acme/mean", deprecated="use acme/mean.v2"), mean("acme/mean.v2")]
"""
CODE = """\
import attrs, torch

@attrs.frozen
class MeanConfig:
    pass

class Mean(torch.nn.Module):
    def __init__(self, config, *, d_in):
        super().__init__()
        self.d_out, self.subsampling = d_in, 1

    def forward(self, feats, lens):
        return feats, lens
"""
CONFIG: dict[str, Any] = {
    "task": "asr",
    "preprocessor": {"name": "log_mel", "features": 8},
    "tokenizer": {"name": "char", "labels": ["a"]},
    "encoder": "acme/mean",
    "decoder": "ctc",
}
WARNING = "encoder: encoder 'acme/mean' (acme-speech 0.1) is deprecated: use acme/mean.v2"


@pytest.fixture(autouse=True)
def acme(install: Install) -> None:
    install("acme-speech", PLUGIN, modules={"acme_mean": CODE})


def test_a_config_that_names_it_is_warned(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with caplog.at_level(logging.WARNING, logger="sonant"):
        model = sonant.build(CONFIG)
        assert caplog.messages == [WARNING]
        caplog.clear()
        sonant.build(CONFIG | {"encoder": "acme/mean.v2"})
        sonant.load(sonant.save(model, tmp_path / "saved"), device="cpu")
        assert caplog.messages == []
        file = tmp_path / "model.yaml"
        file.write_text(yaml.safe_dump(CONFIG), "utf-8")
        sonant.load(file, device="cpu")
        assert WARNING in caplog.messages


def test_the_command_line_says_so(command: Any, tmp_path: Path) -> None:
    file = tmp_path / "model.yaml"
    file.write_text(yaml.safe_dump(CONFIG), "utf-8")
    shown = command("config", "show", file)
    assert WARNING in shown.stderr
    assert "name: acme/mean" in shown.stdout
    rows = {row["name"]: row for row in json.loads(command("components", "encoder", "--json").stdout)}
    assert rows["acme/mean"]["deprecated"] == "use acme/mean.v2"
    assert "deprecated" not in rows["acme/mean.v2"]
    assert "Means. Deprecated: use acme/mean.v2." in command("describe", "encoder", "acme/mean").stdout
    assert "Deprecated" not in command("describe", "encoder", "acme/mean.v2").stdout
