"""Commands that look and convert: what they list is what is installed, and what is wrong is one clear line."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import click
import pytest
import torch
import yaml

import sonant
from sonant import config, registry
from sonant.cli.main import COMMANDS, App, app
from sonant.nemo.archive import NemoArchive

BPE = Path(__file__).resolve().parents[2] / "tests" / "nemo-cases" / "fastconformer_ctc_bpe.nemo"
INSTALLED = list(registry.current())


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


# Looking -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("component", INSTALLED, ids=lambda c: f"{c.spec.kind}-{c.spec.name}")
def test_describe_tells_every_field_of_every_component(component: Any, command: Any) -> None:
    spec = component.spec
    text = command("describe", spec.kind, spec.name).stdout
    value = json.loads(command("describe", spec.kind, spec.name, "--json").stdout)
    assert text.startswith(f"{spec.kind} {spec.name} ({component.plugin.label})\n{spec.doc}\n")
    assert (value["kind"], value["name"], value["plugin"], value["doc"]) == (
        spec.kind,
        spec.name,
        component.plugin.label,
        spec.doc,
    )
    fields = attrs.fields(config.config_class(component))
    above = [f for f in value["fields"] if "." not in f["name"]]
    assert [f["name"] for f in above] == [f.name for f in fields]
    for field, told in zip(fields, above, strict=True):
        assert told["help"] == field.metadata["help"] and told["help"]
        assert told["type"] and told["default"]
        assert (told["default"] == "required") == (field.default is attrs.NOTHING)
        (line,) = [one for one in text.splitlines() if one.split(" ")[0] == field.name and one.endswith(told["help"])]
        assert told["default"] in line
    assert [p["key"] for p in value["parts"]] == [p.key for p in spec.parts]
    assert all(re.search(rf"^{p.key} +{p.kind}.* {re.escape(p.help)}$", text, re.MULTILINE) for p in spec.parts)


def test_describe_tells_the_fields_of_sections_too(command: Any) -> None:
    told = {f["name"]: f for f in json.loads(command("describe", "encoder", "convolutional", "--json").stdout)["fields"]}
    assert told["blocks[].kernel"]["default"] == "required" and told["blocks[].stride"]["default"] == "1"
    text = command("describe", "preprocessor", "log_mel").stdout
    assert re.search(r"^fixed +\S.*\nfixed\.mean +list\[float\] +required", text, re.MULTILINE)


def test_describe_of_what_is_not_there(command: Any) -> None:
    text = command.error("describe", "encoder", "fastconfomer")
    assert text.startswith("no encoder named 'fastconfomer'. Did you mean 'fastconformer'")
    assert "no kind named 'encoders'" in command.error("describe", "encoders", "fastconformer")
    assert "There is a encoder of that name" in command.error("describe", "decoder", "fastconformer")


def test_components_lists_what_a_config_can_name(command: Any) -> None:
    found = json.loads(command("components", "--json").stdout)
    assert {(row["kind"], row["name"]) for row in found} == {(r.spec.kind, r.spec.name) for r in INSTALLED}
    encoders = command("components", "encoder").stdout.splitlines()
    assert [line.split()[:3] for line in encoders] == [
        ["encoder", r.spec.name, r.plugin.distribution] for r in INSTALLED if r.spec.kind == "encoder"
    ]
    assert len(command("components").stdout.splitlines()) == len(INSTALLED)
    assert "no kind named 'encoders'. Did you mean 'encoder'?" in command.error("components", "encoders")


def test_plugins_lists_who_provides_them(command: Any) -> None:
    value = json.loads(command("plugins", "--json").stdout)
    assert value["conflicts"] == value["checks"] == []
    by_name = {row["distribution"]: row for row in value["plugins"]}
    assert {"sonant-asr", "sonant-encoders", "sonant-features"} <= by_name.keys()
    for row in by_name.values():
        assert (row["status"], row["error"]) == ("ok", None)
        assert row["components"] == [f"{r.spec.kind}/{r.spec.name}" for r in row_of(row["distribution"])]
    lines = command("plugins", "sonant-features").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["sonant-features"]
    assert "no plugin called sonant-unheard is installed" in command.error("plugins", "sonant-unheard")


def row_of(distribution: str) -> Sequence[Any]:
    found = {id(r.plugin): r.plugin for r in INSTALLED if r.plugin.distribution == distribution}.values()
    assert len(found) <= 1  # none of one that brings models alone
    return [next(r for r in INSTALLED if r.spec is spec) for plugin in found for spec in plugin.components]


def test_help_names_every_command(command: Any) -> None:
    text = command("--help").stdout
    for name in ("plugins", "components", "models", "describe", "config", "convert", "transcribe"):
        assert re.search(rf"^  {name} ", text, re.MULTILINE)
        assert command(name, "--help").stdout.startswith(f"Usage: sonant {name}")
    assert sonant.__version__ in command("--version").stdout
    assert "No such command 'transcribbe'" in command("transcribbe", status=2).stderr


MODEL = {
    "task": "asr",
    "preprocessor": "log_mel",
    "tokenizer": {"name": "char", "labels": [" ", "a", "ä"]},
    "encoder": {"name": "fastconformer", "d_model": 16, "n_heads": 2, "n_layers": "${seed}", "subsampling_conv_channels": 8},
    "decoder": "ctc",
    "seed": 1,
}


def test_config_show_prints_the_filled_config(tmp_path: Path, command: Any) -> None:
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(MODEL))
    text = command("config", "show", tmp_path / "m.yaml", "encoder.n_heads=4", "encoder.dropout=0.25").stdout
    shown = yaml.safe_load(text)
    assert (shown["encoder"]["n_heads"], shown["encoder"]["dropout"], shown["encoder"]["n_layers"]) == (4, 0.25, 1)
    assert "ä" in text and shown["encoder"]["subsampling_factor"] == 8 and shown["preprocessor"]["features"]
    fields = attrs.fields(config.config_class(registry.current().get("encoder", "fastconformer")))
    assert list(shown["encoder"]) == ["name", *(f.name for f in fields)]
    (tmp_path / "again.yaml").write_text(text)
    assert command("config", "show", tmp_path / "again.yaml").stdout == text


def test_config_show_says_where_the_fault_is(tmp_path: Path, command: Any) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(
        "task: asr\npreprocessor: log_mel\nencoder:\n  name: fastconformer\n  d_modle: 3\n"
        "tokenizer: {name: char, labels: [a]}\ndecoder: ctc\n"
    )
    assert command.error("config", "show", path).startswith(f"{path}:5: encoder.d_modle: ")
    assert "not of the form section.key=value" in command.error("config", "show", path, "n_layers")


# Converting --------------------------------------------------------------------------------------------------------------


def state_of(path: Path) -> dict[str, torch.Tensor]:
    with NemoArchive(path) as archive:
        return archive.state()


def test_convert_both_ways_and_say_what_was_left_behind(tmp_path: Path, command: Any) -> None:
    result = command("convert", BPE, tmp_path / "folder")
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert {"dropped train_ds", "dropped encoder.pos_emb_max_len", "dropped decoding"} <= set(lines)
    assert re.fullmatch(rf"wrote {tmp_path}/folder: [\d,]{{6,7}} parameters, 0\.\d MB", lines[-1])
    assert files(tmp_path / "folder") == ["config.yaml", "model.safetensors", "tokenizer.model"]
    command("convert", tmp_path / "folder", tmp_path / "deep" / "back.nemo")
    ours, theirs = state_of(tmp_path / "deep" / "back.nemo"), state_of(BPE)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in theirs)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["model.onnx"], "`sonant export` writes .onnx files"),
        (["model.pt2"], "`sonant export` writes .pt2 files"),
        (["model.nemo", "--to", "huggingface"], "the form huggingface is a folder"),
        (["model.nemo", "--to", "sonant"], "the form sonant is a folder"),
    ],
)
def test_convert_refuses_names_that_say_something_else(options: list[str], reason: str, tmp_path: Path, command: Any) -> None:
    name, *rest = options
    assert reason in command("convert", BPE, tmp_path / name, *rest, status=1).stderr
    assert not (tmp_path / name).exists()


def test_a_graph_is_not_opened_as_a_model(tmp_path: Path, command: Any) -> None:
    (tmp_path / "model.onnx").write_bytes(b"graph")
    assert "a graph for other runtimes" in command.error("inspect", tmp_path / "model.onnx")
    assert "a graph for other runtimes" in command.error("convert", tmp_path / "model.onnx", tmp_path / "folder")


def test_convert_keeps_the_stored_precision(tmp_path: Path, command: Any) -> None:
    half = sonant.save(sonant.load(BPE, device="cpu", dtype="bfloat16"), tmp_path / "half.nemo")
    command("convert", half, tmp_path / "folder")
    command("convert", tmp_path / "folder", tmp_path / "back.nemo")
    ours, theirs = state_of(tmp_path / "back.nemo"), state_of(half)
    assert {v.dtype for v in ours.values()} == {torch.bfloat16, torch.float32, torch.int64}
    assert all(ours[k].dtype == theirs[k].dtype and torch.equal(ours[k], theirs[k]) for k in theirs)


@pytest.mark.parametrize("target", ["there.nemo", "there"])
def test_convert_overwrites_only_when_told(target: str, tmp_path: Path, command: Any) -> None:
    path = tmp_path / target
    if path.suffix:
        path.write_text("precious")
    else:
        path.mkdir()
        (path / "notes.txt").write_text("precious")
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    assert command.error("convert", BPE, path) == f"{path} is already there; pass --overwrite to replace it"
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before
    command("convert", BPE, path, "--overwrite")
    sonant.load(path, device="cpu")


def test_convert_into_an_empty_folder(tmp_path: Path, command: Any) -> None:
    command("convert", BPE, tmp_path)
    sonant.load(tmp_path, device="cpu")


def test_convert_what_is_not_there_or_where_it_cannot(tmp_path: Path, command: Any) -> None:
    assert (
        command.error("convert", tmp_path / "none.nemo", tmp_path / "out") == f"there is no file or folder {tmp_path}/none.nemo"
    )
    (tmp_path / "file").write_text("in the way")
    for target in ("file/out", "file/out.nemo"):
        assert f"{tmp_path}/file" in command("convert", BPE, tmp_path / target, status=1).stderr.splitlines()[-1]
    assert files(tmp_path) == ["file"]


def test_the_error_of_a_command_is_a_click_exception() -> None:
    """So that whoever embeds the group gets what click's own commands raise."""
    command = App("sonant", callback=app.callback, params=app.params, commands=COMMANDS)
    with pytest.raises(click.ClickException, match="there is no file or folder"):
        command.main(["convert", "none.nemo", "out"], standalone_mode=False)


def test_a_kind_of_which_nothing_is_installed(command: Any) -> None:
    shown = command("components", "codec")
    assert (shown.stdout, shown.stderr) == ("", "No codec is installed.\n")
    assert command("components", "codec", "--json").stdout == "[]\n"


@pytest.mark.parametrize("name", ["transcribe", "evaluate"])
def test_help_with_headings_leaves_no_option_out_and_names_none_twice(name: str, command: Any) -> None:
    found = app.get_command(click.Context(app), name)
    assert found is not None
    text = command(name, "--help").stdout
    listed = re.findall(r"^  (?:-\w, )?(--[\w-]+)", text, re.MULTILINE)
    options = [p.opts[-1] for p in found.get_params(click.Context(found)) if isinstance(p, click.Option)]
    assert sorted(listed) == sorted(options)
    headings = found.headings  # type: ignore[attr-defined]
    known = {p.name for p in found.params} | {"shard", "n_best", "live", "look_ahead", "microphone"}  # of transcribe alone
    assert {option for options in headings.values() for option in options} <= known
