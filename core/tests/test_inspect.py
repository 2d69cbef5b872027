"""`sonant inspect`: a checkpoint tells what it holds, its plugins present or not, and nothing it holds is run."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

import sonant
from checkpoint_cases import BPE, CASES, HYBRID, NAMES, model, rewrite
from sonant.errors import CheckpointError, ConfigError
from sonant.nemo.archive import CONFIG, WEIGHTS, NemoArchive, write_archive

CardFile = Callable[..., Path]


class Trap:
    """Unpickling one leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (str(self.path),)  # type: ignore[return-value]


@pytest.mark.parametrize("name", NAMES)
def test_a_nemo_checkpoint_tells_what_torch_reads_in_it(name: str) -> None:
    found = sonant.inspect(CASES / f"{name}.nemo")
    with NemoArchive(CASES / f"{name}.nemo") as archive:
        state, sizes = archive.state(), archive.sizes()
    assert {t.name: (t.shape, t.dtype) for t in found.tensors} == {
        key: (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")) for key, tensor in state.items()
    }
    assert {t.name: t.bytes for t in found.tensors} == {key: t.nbytes for key, t in state.items()}
    assert found.numbers == sum(t.numel() for t in state.values())
    assert found.files == sizes
    assert (found.form, found.saved_by, found.bytes) == (
        "NeMo checkpoint",
        "NeMo 3.0.0",
        (CASES / f"{name}.nemo").stat().st_size,
    )
    rows = {c.section: c for c in found.components}
    assert rows["task"].status.startswith("installed: task asr (sonant-asr ")
    assert "encoder" in rows["encoder"].status and "sonant-encoders" in rows["encoder"].status
    assert found.config["target"] == rows["task"].name


def test_a_folder_tells_the_same_as_the_model(folders: Callable[[str], Path]) -> None:
    found = sonant.inspect(folders(HYBRID))
    state = model(HYBRID).state_dict()
    assert {t.name: (t.shape, t.dtype, t.bytes) for t in found.tensors} == {
        key: (tuple(t.shape), str(t.dtype).removeprefix("torch."), t.nbytes) for key, t in state.items()
    }
    assert [(c.section, c.name) for c in found.components] == [
        ("task", "asr"),
        ("preprocessor", "log_mel"),
        ("augmentation", "spec_augment"),
        ("tokenizer", "sentencepiece"),
        ("encoder", "fastconformer"),
        ("decoder", "tdt"),
        ("aux_decoder", "ctc"),
    ]
    assert all(c.status == f"installed: {c.source}" for c in found.components)
    assert found.saved_by == f"sonant {sonant.__version__}"
    assert set(found.files) == {"config.yaml", "model.safetensors", "tokenizer.model"}


def test_plugins_that_are_absent_are_named_and_stop_nothing(folder: Path) -> None:
    def foreign(data: dict[str, Any]) -> None:
        data["encoder"] = {"name": "acme/zipformer", "stacks": 6}
        data["acme_section"] = {"name": "acme/thing"}
        data["sonant"]["distributions"]["encoder"] = "acme-speech 2.1"

    rewrite(folder, foreign)
    found = sonant.inspect(folder)
    rows = {c.section: (c.name, c.source, c.status) for c in found.components}
    assert rows["encoder"] == ("acme/zipformer", "acme-speech 2.1", "not installed")
    assert rows["acme_section"] == ("acme/thing", "", "not installed")
    assert found.config["encoder"] == {"name": "acme/zipformer", "stacks": 6}
    assert len(found.tensors) == len(model(BPE).state_dict())


def test_a_nemo_class_that_nothing_stands_for(tmp_path: Path) -> None:
    with NemoArchive(CASES / f"{BPE}.nemo") as archive:
        document, state = yaml.safe_load(archive.read(CONFIG)), archive.state()
    document["target"] = "acme.models.Unheard"
    write_archive(tmp_path / "foreign.nemo", document, state, {})
    found = sonant.inspect(tmp_path / "foreign.nemo")
    assert found.components[0].name == "acme.models.Unheard"
    assert found.components[0].status == "no component of its own"
    assert len(found.tensors) == len(state)


def test_a_config_and_a_file_of_tensors(folder: Path, tmp_path: Path) -> None:
    tensors = sonant.inspect(folder / "model.safetensors")
    assert (tensors.form, tensors.components, tensors.tensors) == (
        "safetensors file",
        (),
        sonant.inspect(folder).tensors,
    )
    file = tmp_path / "mine.yaml"
    file.write_text("task: asr\nencoder: {name: fastconformer, d_model: '${width}'}\ntrainer: {name: lightning}\n", "utf-8")
    config = sonant.inspect(file)
    assert [(c.section, c.name) for c in config.components] == [("task", "asr"), ("encoder", "fastconformer")]
    assert config.config["encoder"]["d_model"] == "${width}"


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    with NemoArchive(CASES / f"{BPE}.nemo") as archive:
        document, state = yaml.safe_load(archive.read(CONFIG)), archive.state()
    torch.save({**state, "trap": Trap(mark)}, tmp_path / WEIGHTS)
    (tmp_path / CONFIG).write_text(yaml.safe_dump(document), "utf-8")
    with tarfile.open(tmp_path / "trap.nemo", "w") as tar:
        for name in (CONFIG, WEIGHTS):
            tar.add(tmp_path / name, arcname=name)
    with pytest.raises(CheckpointError, match="it holds code or objects other than tensors; nothing was run"):
        sonant.inspect(tmp_path / "trap.nemo")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda f: (f / "config.yaml").unlink(), "it has none of config.yaml, model_config.yaml, config.json"),
        (lambda f: (f / "config.yaml").write_text("a: !!python/object:os.system {}"), "is not plain YAML"),
        (lambda f: (f / "config.yaml").write_text("encoder: {name: '${oc.env:HOME}'}"), "interpolations such as"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\x00" * 20), "cannot read the weights"),
    ],
)
def test_what_cannot_be_read(damage: Callable[[Path], Any], fault: str, folder: Path) -> None:
    damage(folder)
    with pytest.raises((CheckpointError, ConfigError), match=fault):
        sonant.inspect(folder)


# Licences


@pytest.mark.parametrize(
    ("files", "licence"),
    [
        ({}, ""),
        ({"README.md": "---\nlicense: cc-by-4.0\ntags: [asr]\n---\n# A model\n"}, "cc-by-4.0"),
        ({"README.md": "---\nlicense: [\n---\n"}, ""),
        ({"README.md": "# No front matter\n", "LICENSE": "\n  Apache License 2.0\nmore"}, "Apache License 2.0"),
        ({"COPYING": "x" * 1000}, "x" * 200),
    ],
)
def test_the_licence_beside_a_model(files: dict[str, str], licence: str, folder: Path) -> None:
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")
    assert sonant.inspect(folder).license == licence


def test_the_licence_of_a_card_goes_along_when_the_model_is_saved(tmp_path: Path, card_file: CardFile) -> None:
    shutil.copy(CASES / f"{BPE}.nemo", tmp_path / "tiny.nemo")
    cards = card_file(file=str(tmp_path / "tiny.nemo"))
    rewritten = yaml.safe_load(cards.read_text("utf-8"))
    rewritten["models"]["tiny"]["license"] = "CC-BY-4.0"
    cards.write_text(yaml.safe_dump(rewritten), "utf-8")
    assert sonant.inspect("tiny", registry=cards).license == "CC-BY-4.0"
    saved = sonant.save(sonant.load("tiny", device="cpu", registry=cards), tmp_path / "saved")
    assert sonant.inspect(saved).license == "CC-BY-4.0"
    again = sonant.save(sonant.load(saved, device="cpu"), tmp_path / "again")
    assert sonant.inspect(again).license == "CC-BY-4.0"


# The command


def test_the_command_prints_components_tensors_and_files(folder: Path, command: Any) -> None:
    out = command("inspect", folder).stdout
    assert f"{folder}: Sonant folder, " in out
    assert "licence: not stated" in out
    for row in (r"encoder +fastconformer +sonant-encoders", r"all +\d+ +[\d,]+ +float32", r"tokenizer\.model +\d+"):
        assert any(re.match(row, line) for line in out.splitlines()), row
    tensors = command("inspect", folder, "--tensors").stdout.splitlines()
    assert len(tensors) == 1 + len(model(BPE).state_dict())
    assert yaml.safe_load(command("inspect", folder, "--config").stdout)["encoder"]["name"] == "fastconformer"
    document = json.loads(command("inspect", folder, "--json").stdout)
    assert document["numbers"] == sum(t.numel() for t in model(BPE).state_dict().values())
    assert {row["section"] for row in document["components"]} >= {"task", "encoder", "decoder"}
    assert command.error("inspect", folder / "absent.nemo").startswith("there is no file or folder")


def test_what_a_stranger_wrote_cannot_steer_the_terminal(folder: Path, command: Any) -> None:
    rewrite(folder, lambda d: d["encoder"].update(name="acme/x\x1b[2J\r\x9b"))
    out = command("inspect", folder).stdout
    assert "acme/x\\x1b[2J\\r\\x9b" in out
    assert not set(out) & {"\x1b", "\r", "\x9b"}


# Saved with other plugins than are installed


def test_another_version_of_a_plugin_is_named_where_a_model_does_not_fit(folder: Path) -> None:
    def older(data: dict[str, Any]) -> None:
        data["sonant"]["distributions"]["encoder"] = "sonant-encoders 0.0.9"

    rewrite(folder, older)
    sonant.load(folder, device="cpu")  # it fits, and nothing is in the way
    rewrite(folder, lambda d: d["encoder"].update(renamed_since=1))
    with pytest.raises(CheckpointError, match=r"encoder\.renamed_since: unknown key.*was saved with sonant-encoders 0\.0\.9 \("):
        sonant.load(folder, device="cpu")
    rewrite(folder, lambda d: (d["encoder"].pop("renamed_since"), d["encoder"].update(d_model=64)))
    with pytest.raises(CheckpointError, match=r"do not fit its config.*was saved with sonant-encoders 0\.0\.9 \(installed: "):
        sonant.load(folder, device="cpu")


@pytest.mark.parametrize("label", ["acme-speech; rm -rf ~ 1", "--index-url=http://x 1", "acme\x1b[2J 1", "acme-speech", "a b c"])
def test_a_label_that_pip_would_not_print_is_not_repeated(label: str, folder: Path) -> None:
    rewrite(folder, lambda d: (d["encoder"].update(name="acme/x"), d["sonant"]["distributions"].update(encoder=label)))
    with pytest.raises(LookupError) as caught:
        sonant.load(folder, device="cpu")
    assert "pip install" not in str(caught.value)
    assert label not in str(caught.value)


# Odd and hostile files


@pytest.mark.parametrize("name", ["LICENSE", "README.md"])
def test_a_link_out_of_the_folder_is_not_read(name: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("---\nlicense: a secret\n---\n", "utf-8")
    (folder / name).symlink_to(tmp_path / "secret")
    with pytest.raises(CheckpointError, match=f"the file '{name}' lies outside"):
        sonant.inspect(folder)


def test_linked_weights_of_an_unpacked_checkpoint_are_refused_by_all(tmp_path: Path) -> None:
    unpacked = tmp_path / "unpacked"
    with tarfile.open(CASES / f"{BPE}.nemo") as tar:
        tar.extractall(unpacked, filter="data")
    (unpacked / WEIGHTS).rename(tmp_path / "elsewhere.ckpt")
    (unpacked / WEIGHTS).symlink_to(tmp_path / "elsewhere.ckpt")
    for read in (sonant.inspect, sonant.load):
        with pytest.raises(CheckpointError, match=f"the file '{WEIGHTS}' lies outside"):
            read(unpacked)


def test_a_config_that_holds_itself(tmp_path: Path) -> None:
    (tmp_path / "loop.yaml").write_text("task: &a [*a]\n", "utf-8")
    with pytest.raises(ConfigError, match=r"loop\.yaml:1: task\[0\]: an alias stands for what it is nested in itself"):
        sonant.inspect(tmp_path / "loop.yaml")


def test_values_that_json_does_not_have_and_terminals_obey(tmp_path: Path, command: Any) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text('date: 2024-02-03\nsteer: "\\x9B2J\\u202E"\nplain: "für"\n', "utf-8")
    out = command("inspect", file, "--json").stdout
    assert json.loads(out)["config"] == {"date": "2024-02-03", "steer": "\x9b2J\u202e", "plain": "für"}
    assert "für" in out
    for option in ("--json", "--config"):
        assert not set(command("inspect", file, option).stdout) & {"\x9b", "\u202e"}


def test_types_of_tensors_that_are_rare(tmp_path: Path) -> None:
    tensors = {
        "a": torch.zeros(3, dtype=torch.float8_e4m3fn),
        "b": torch.zeros(2, 2, dtype=torch.uint16),
        "c": torch.zeros(5, dtype=torch.bool),
        "d": torch.zeros(1, dtype=torch.bfloat16),
        "e": torch.zeros(2, dtype=torch.complex64),
    }
    save_file(tensors, tmp_path / "odd.safetensors")
    found = sonant.inspect(tmp_path / "odd.safetensors").tensors
    assert {t.name: t.bytes for t in found} == {name: t.nbytes for name, t in tensors.items()}
    assert [t.dtype for t in found] == ["float8_e4m3", "uint16", "bool", "bfloat16", "complex64"]


def test_the_licence_in_a_readme_goes_along_when_the_model_is_saved(folder: Path, tmp_path: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: mit\n---\n", "utf-8")
    assert sonant.inspect(sonant.save(sonant.load(folder, device="cpu"), tmp_path / "again")).license == "mit"


def test_another_version_is_marked(folder: Path) -> None:
    rewrite(folder, lambda d: d["sonant"]["distributions"].update(encoder="sonant-encoders 0.0.9"))
    rows = {c.section: c.status for c in sonant.inspect(folder).components}
    assert rows["encoder"].startswith("installed, another version: sonant-encoders ")
    assert rows["decoder"].startswith("installed: sonant-asr ")
