"""A model is assembled from parts by name, those of a third party too, saved, and opened again."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

import sonant
from sonant import config, plugins
from sonant.build import Blueprint
from sonant.errors import CheckpointError, ConfigError, PluginError, UnknownName

Install = Callable[..., Path]

ACME = """
from sonant import ComponentSpec, hookimpl

SONANT_API = 1


@hookimpl
def sonant_components():
    return [
        ComponentSpec(kind="encoder", name="acme/stack", target="acme_net:Stack", config="acme_net:StackConfig", doc=""),
        ComponentSpec(kind="encoder", name="acme/odd", target="acme_net:Odd", config="acme_net:StackConfig", doc=""),
        ComponentSpec(kind="encoder", name="acme/absent", target="acme_net:Absent", config="acme_net:StackConfig", doc=""),
        ComponentSpec(kind="encoder", name="acme/no_module", target="acme_nowhere:Net", config="acme_net:StackConfig", doc=""),
        ComponentSpec(kind="encoder", name="acme/by_place", target="acme_net:Placed", config="acme_net:StackConfig", doc=""),
        ComponentSpec(kind="encoder", name="acme/table", target="acme_net:Table", config="acme_net:StackConfig", doc=""),
        ComponentSpec(kind="encoder", name="acme/listed", target="acme_net:Listed", config="acme_net:StackConfig", doc=""),
        ComponentSpec(kind="encoder", name="acme/bare", target="acme_net:Bare", config="acme_net:StackConfig", doc=""),
    ]
"""

ACME_NET = """
import torch
from attrs import frozen
from torch import nn


@frozen(kw_only=True)
class StackConfig:
    width: int = 12
    every: int = 2


class Stack(nn.Module):
    "Puts `every` frames together and projects them."

    def __init__(self, config, *, d_in, note="none"):
        super().__init__()
        if config.width % 2:
            raise ValueError(f"width {config.width} must be even")
        self.config, self.note = config, note
        self.d_in, self.d_out, self.subsampling = d_in, config.width, config.every
        self.project = nn.Linear(d_in * config.every, config.width)
        self.register_buffer("gain", torch.full((1,), 2.0))

    def forward(self, feats, lens):
        frames = feats.shape[1] // self.subsampling
        feats = feats[:, : frames * self.subsampling].reshape(len(feats), frames, -1)
        return self.gain * self.project(feats), lens // self.subsampling


class Odd(Stack):
    def __init__(self, config, *, d_in, colour):
        super().__init__(config, d_in=d_in)


class Table(Stack):
    "With a buffer that is not stored, and an attribute."

    def __init__(self, config, *, d_in):
        super().__init__(config, d_in=d_in)
        self.register_buffer("rates", torch.linspace(0.5, 1.5, config.width), persistent=False)
        self.shift = torch.arange(config.width) / 7

    def forward(self, feats, lens):
        x, lens = super().forward(feats, lens)
        return x * self.rates + self.shift, lens


class Listed(Stack):
    "Its constructor looks at numbers."

    def __init__(self, config, *, d_in):
        super().__init__(config, d_in=d_in)
        self.rates = torch.linspace(0.5, 1.5, config.width).tolist()

    def forward(self, feats, lens):
        x, lens = super().forward(feats, lens)
        return x * torch.tensor(self.rates), lens


class Placed(Stack):
    def __init__(self, config, d_in):
        super().__init__(config, d_in=d_in)


class Bare(nn.Module):
    def __init__(self, config, *, d_in):
        super().__init__()
"""

CONFIG: dict[str, Any] = {
    "task": "asr",
    "preprocessor": {"name": "log_mel", "features": 16},
    "tokenizer": {"name": "char", "labels": [" ", "a", "b"]},
    "encoder": {"name": "acme/stack", "every": 4},
    "decoder": "ctc",
}


@pytest.fixture
def acme(install: Install) -> Path:
    """The third-party distribution, installed; its metadata folder."""
    return install("acme-speech", ACME, version="0.3", modules={"acme_net": ACME_NET})


@pytest.fixture
def wav() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return 0.1 * torch.randn(2, 16000, generator=generator), torch.tensor([16000, 9000])


def outputs(model: Any, wav: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    with torch.inference_mode():
        enc, lens = model.encode(*wav)
        return model.decoder(enc), lens


@pytest.mark.usefixtures("acme")
def test_a_third_party_encoder_between_first_party_parts(wav: tuple[Tensor, Tensor]) -> None:
    model: Any = sonant.build(CONFIG)
    assert (type(model.encoder).__module__, type(model.encoder).__name__) == ("acme_net", "Stack")
    assert (model.encoder.d_in, model.encoder.d_out, model.decoder.d_in) == (16, 12, 12)
    feats, frames = model.preprocessor(*wav)
    logits, lens = outputs(model, wav)
    assert feats.shape == (2, 101, 16)
    assert logits.shape == (2, 101 // 4, 4)
    assert lens.tolist() == [int(n) // 4 for n in frames]
    assert torch.isfinite(logits).all()


@pytest.mark.usefixtures("acme")
def test_saved_and_opened_again_it_computes_the_same(tmp_path: Path, wav: tuple[Tensor, Tensor]) -> None:
    model: Any = sonant.build(CONFIG | {"search": "ctc_greedy", "trainer": {"max_steps": 3}})
    with torch.no_grad():
        model.encoder.gain.fill_(3.0)
    folder = sonant.save(model, tmp_path / "model")
    assert sorted(p.name for p in folder.iterdir()) == ["config.yaml", "model.safetensors"]
    stored = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    assert stored["encoder"] == {"name": "acme/stack", "width": 12, "every": 4}
    assert set(stored) == {"sonant", "task", "preprocessor", "tokenizer", "encoder", "decoder"}
    assert stored["sonant"]["distributions"]["encoder"] == "acme-speech 0.3"

    again: Any = sonant.load(folder, device="cpu", dtype="float32")
    assert not again.training
    assert again.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    for ours, theirs in zip(outputs(again, wav), outputs(model.eval(), wav), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["acme/table", "acme/listed"])
@pytest.mark.usefixtures("acme")
def test_what_the_weights_do_not_hold_is_made_again(
    name: str, tmp_path: Path, wav: tuple[Tensor, Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    model: Any = sonant.build(CONFIG | {"encoder": name}).eval()
    folder = sonant.save(model, tmp_path / "model")
    with caplog.at_level(logging.INFO, logger="sonant.checkpoint"):
        again: Any = sonant.load(folder, device="cpu", dtype="float32")
    assert "is built with memory of its own" in caplog.text
    for ours, theirs in zip(outputs(again, wav), outputs(model, wav), strict=True):
        assert torch.equal(ours, theirs)


def test_opening_it_without_the_plugin_names_the_distribution(acme: Path, tmp_path: Path) -> None:
    folder = sonant.save(sonant.build(CONFIG), tmp_path / "model")
    shutil.rmtree(acme)
    plugins.refresh()
    with pytest.raises(UnknownName, match=r"no encoder named 'acme/stack'") as caught:
        sonant.load(folder)
    assert str(caught.value).startswith(f"{folder}: ")
    assert str(caught.value).endswith(
        "The model says that it was saved with acme-speech 0.3, not installed here. If you trust that, "
        f"pip install acme-speech==0.3. What it holds: sonant inspect {folder}"
    )


@pytest.mark.usefixtures("acme")
def test_a_third_party_part_has_no_counterpart_in_nemo(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"encoder 'acme/stack' \(acme-speech 0\.3\) has no counterpart in NeMo"):
        sonant.save(sonant.build(CONFIG), tmp_path / "model.nemo")
    assert not (tmp_path / "model.nemo").exists()


@pytest.mark.usefixtures("acme")
def test_sections_are_merged_over_the_config() -> None:
    before = yaml.safe_dump(CONFIG)
    model: Any = sonant.build(CONFIG, encoder={"width": 6}, tokenizer={"labels": ["x"]}, search="ctc_greedy")
    assert (model.encoder.d_out, model.encoder.subsampling) == (6, 4)
    assert model.tokenizer.vocab_size == 1
    assert model.search is not None
    assert yaml.safe_dump(CONFIG) == before


@pytest.mark.usefixtures("acme")
def test_fields_are_merged_over_a_bare_name() -> None:
    model: Any = sonant.build(CONFIG | {"encoder": "acme/stack"}, encoder={"width": 6})
    assert (model.encoder.d_out, model.encoder.subsampling) == (6, 2)


@pytest.mark.usefixtures("acme")
def test_a_name_replaces_a_section() -> None:
    model: Any = sonant.build(CONFIG, encoder="acme/stack")
    assert model.encoder.subsampling == 2


@pytest.mark.usefixtures("acme")
def test_from_a_file_and_from_a_filled_config(tmp_path: Path) -> None:
    file = tmp_path / "model.yaml"
    file.write_text(yaml.safe_dump(CONFIG | {"encoder": {"name": "acme/stack", "width": "${preprocessor.features}"}}), "utf-8")
    for source in (file, str(file)):
        model: Any = sonant.build(source, encoder={"every": 3})
        assert (model.encoder.d_out, model.encoder.subsampling) == (16, 3)
    filled = config.fill_model(CONFIG)
    model = sonant.build(filled, encoder={"width": 6})
    assert (model.encoder.d_out, model.encoder.subsampling) == (6, 4)


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize("use", [sonant.build, sonant.load])
def test_an_error_in_a_file_names_the_line(use: Callable[[Path], Any], tmp_path: Path) -> None:
    file = tmp_path / "model.yaml"
    file.write_text(yaml.safe_dump(CONFIG, sort_keys=False).replace("every: 4", "evry: 4"), "utf-8")
    line = file.read_text("utf-8").splitlines().index("  evry: 4") + 1
    with pytest.raises(ConfigError, match=re.escape(f"{file}:{line}: encoder.evry: unknown key. Did you mean 'every'?")):
        use(file)


@pytest.mark.usefixtures("acme")
def test_a_model_carries_its_blueprint() -> None:
    model: Any = sonant.build(CONFIG)
    assert isinstance(model.blueprint, Blueprint)
    assert model.training
    again: Any = sonant.build(model.blueprint.config)
    assert again.blueprint.config.to_dict() == model.blueprint.config.to_dict()


@pytest.mark.usefixtures("acme")
def test_a_config_file_opens_with_fresh_weights(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "model.yaml"
    file.write_text(yaml.safe_dump(CONFIG), "utf-8")
    model: Any = sonant.load(file, device="cpu", dtype="float32", overrides=["encoder.width=8"])
    assert model.encoder.d_out == 8
    assert "fresh, untrained weights" in caplog.text


@pytest.mark.parametrize(
    ("change", "error", "wanted"),
    [
        ({"encoder": {"name": "acme/stack", "width": 7}}, ConfigError, "encoder: {label}: width 7 must be even"),
        (
            {"encoder": "acme/odd"},
            ConfigError,
            "encoder: {label} needs 'colour', which no part before it provides; it is offered d_in, files",
        ),
        ({"encoder": "acme/absent"}, PluginError, "{label}: 'acme_net' has no attribute 'Absent'"),
        ({"encoder": "acme/no_module"}, PluginError, "{label}: cannot import 'acme_nowhere:Net': No module named 'acme_nowhere'"),
        (
            {"encoder": "acme/bare"},
            ConfigError,
            "encoder: {label} has no attribute 'd_out' and no 'subsampling', which every encoder must have",
        ),
        ({"encoder": "acme/by_place"}, ConfigError, "encoder: {label} takes 'd_in' by position; write `(config, *, d_in)`"),
        ({"tokenizer": {"name": "char", "labels": []}}, ConfigError, "tokenizer: labels must not be empty"),
        (
            {"tokenizer": {"name": "sentencepiece", "file": "absent.model"}},
            ConfigError,
            "the config names the file 'absent.model'",
        ),
    ],
)
@pytest.mark.usefixtures("acme")
def test_parts_that_cannot_be_built(change: dict[str, Any], error: type[Exception], wanted: str) -> None:
    section = change.get("encoder")
    name = section["name"] if isinstance(section, dict) else section
    with pytest.raises(error, match="^" + re.escape(wanted.format(label=f"encoder {name!r} (acme-speech 0.3)"))):
        sonant.build(CONFIG | change)


@pytest.mark.usefixtures("acme")
def test_everything_is_checked_before_a_part_is_imported() -> None:
    with pytest.raises(ConfigError, match=r"decoder\.blank: unknown key"):
        sonant.build(CONFIG, encoder={"name": "acme/no_module"}, decoder={"name": "ctc", "blank": 0})
    with pytest.raises(PluginError, match="No module named 'acme_nowhere'"):
        sonant.build(CONFIG, encoder={"name": "acme/no_module"})


@pytest.mark.usefixtures("acme")
def test_a_saved_model_takes_no_overrides(tmp_path: Path) -> None:
    folder = sonant.save(sonant.build(CONFIG), tmp_path / "model")
    with pytest.raises(ConfigError, match=r"cannot be overridden \(encoder\.width=8\)"):
        sonant.load(folder, overrides=["encoder.width=8"])


def test_only_models_of_ones_own_can_be_saved(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="Linear has no blueprint"):
        sonant.save(torch.nn.Linear(1, 1), tmp_path / "model")


@pytest.mark.parametrize("value", ["${oc.env:HOME}", "${encoder.every}"])
@pytest.mark.usefixtures("acme")
def test_a_saved_config_with_an_interpolation_is_refused(value: str, tmp_path: Path) -> None:
    folder = sonant.save(sonant.build(CONFIG), tmp_path / "model")
    text = (folder / "config.yaml").read_text("utf-8")
    (folder / "config.yaml").write_text(text.replace("width: 12", f"width: {value}"), "utf-8")
    with pytest.raises(CheckpointError, match=re.escape(value)):
        sonant.load(folder)


@pytest.mark.usefixtures("acme")
def test_a_saved_config_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    folder = sonant.save(sonant.build(CONFIG), tmp_path / "model")
    text = (folder / "config.yaml").read_text("utf-8")
    (folder / "config.yaml").write_text(text.replace("width: 12", "width: 12\n  widht: 3"), "utf-8")
    with pytest.raises(CheckpointError, match=r"config\.yaml.*encoder\.widht: unknown key\. Did you mean 'width'\?"):
        sonant.load(folder)
