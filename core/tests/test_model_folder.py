"""A model folder (or `.nemo` file) that does not hold together, or reaches for what is not its own, says where."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import sonant
from checkpoint_cases import refusal, rewrite
from sonant import weights
from sonant.errors import CheckpointError, ConfigError, UnknownName
from sonant.files import Files, check_member_name
from sonant.nemo.archive import CONFIG, WEIGHTS, NemoArchive, write_archive

CASE = Path(__file__).resolve().parents[2] / "tests" / "nemo-cases" / "fastconformer_ctc_bpe.nemo"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound one, to damage."""
    return sonant.save(sonant.load(CASE, device="cpu"), tmp_path / "model")


def reweigh(folder: Path, change: Callable[[weights.State], Any]) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")


# Configs and tensors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("encoder", "d_model"), "${oc.env:HOME}"),
        (("encoder", "d_model"), "${encoder.n_heads}"),
        (("tokenizer", "file"), "${oc.env:HOME}/tokenizer.model"),
        (("task", "segment_separators"), [".", "${oc.env:HOME}"]),
        (("train_ds",), {"deep": [{"er": "x${oc.env:HOME}"}]}),
    ],
)
def test_a_saved_config_resolves_nothing(where: tuple[str, ...], value: Any, folder: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        for key in where[:-1]:
            data = data[key]
        data[where[-1]] = value

    rewrite(folder, change)
    text = refusal(folder)
    assert f"{folder}/config.yaml: interpolations such as '" in text and "${" in text and "refused" in text
    assert os.environ["HOME"] not in text.replace(str(folder), "")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda d: d["encoder"].update(d_modle=3), "encoder.d_modle: unknown key. Did you mean 'd_model'?"),
        (lambda d: d["encoder"].update(d_model="wide"), "encoder.d_model"),
        (lambda d: d["encoder"].update(n_heads=5), "n_heads 5 does not divide d_model 32"),
        (lambda d: d.pop("encoder"), "encoder is missing"),
        (lambda d: d.update(frobnicate={}), "frobnicate: unknown section"),
        (lambda d: d.update(encoder=None), "encoder is missing"),
        (lambda d: d.update(encoder=[1]), "encoder: expected a component"),
        (lambda d: d["encoder"].pop("name"), "encoder.name is missing"),
        (lambda d: d["tokenizer"].pop("file"), "tokenizer.file"),
        (lambda d: d["encoder"].update({7: 8}), "the key 7 is not a string"),
    ],
)
def test_a_config_that_does_not_hold_together(change: Callable[[dict[str, Any]], Any], fault: str, folder: Path) -> None:
    rewrite(folder, change)
    assert (text := refusal(folder)).startswith(f"{folder}/config.yaml: ") and fault in text


def test_a_component_that_is_not_installed_is_named_with_what_had_it(folder: Path) -> None:
    rewrite(
        folder,
        lambda d: (d["encoder"].update(name="acme/zipformer"), d["sonant"]["distributions"].update(encoder="acme-speech 2.1")),
    )
    text = refusal(folder, UnknownName)
    assert text.startswith(f"{folder}: encoder.name: no encoder named 'acme/zipformer'")
    assert "The model says that it was saved with acme-speech 2.1, not installed here." in text
    assert "sonant-asr" not in text.partition("The model says")[2]


@pytest.mark.parametrize("provenance", [None, "text", [1], {"distributions": "x"}, {"distributions": {"a": [1]}}])
def test_a_provenance_that_makes_no_sense_changes_nothing(provenance: Any, folder: Path) -> None:
    rewrite(folder, lambda d: d.update(sonant=provenance))
    sonant.load(folder, device="cpu")
    rewrite(folder, lambda d: d["encoder"].update(name="unheard_of"))
    assert "no encoder named 'unheard_of'" in refusal(folder, UnknownName)


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "",
        "- 1",
        "a: !!python/object/apply:os.system ['true']",
        "a: &a [*a]",
        "task: &a {x: *a}",
        "[" * 100_000,
        "a: " + "[" * 400 + "]" * 400,
    ],
)
def test_a_config_that_is_no_document(text: str, folder: Path) -> None:
    (folder / "config.yaml").write_text(text)
    with pytest.raises((CheckpointError, ConfigError)) as caught:
        sonant.load(folder, device="cpu")
    assert str(folder) in str(caught.value) or "task" in str(caught.value)


QUERY = {"folder": "encoder.layers.1.attention.query.weight", "nemo": "encoder.layers.1.self_attn.linear_q.weight"}
OURS = QUERY["folder"]
MISFITS: dict[str, tuple[Callable[[weights.State, str], Any], str]] = {
    "missing": (lambda state, query: state.pop(query), f"1 tensors missing: {OURS}"),
    "many missing": (
        lambda state, _: [state.pop(k) for k in list(state) if ".layers.1." in k],
        "40 tensors missing: encoder.layers.1.attention.key.bias, encoder.layers.1.attention.key.weight, ",
    ),
    "misshapen": (
        lambda state, query: state.update({query: torch.zeros(3, 2)}),
        f"1 tensors misshapen: {OURS} is (3, 2), the config asks for (32, 32)",
    ),
    "integers": (
        lambda state, query: state.update({query: torch.zeros(32, 32, dtype=torch.int64)}),
        f"1 tensors of another kind: {OURS} is torch.int64, the config asks for torch.float32",
    ),
    "left over": (lambda state, _: state.update({"evil.weight": torch.zeros(1)}), "1 tensors left over: evil.weight"),
    "both": (
        lambda state, query: (state.pop(query), state.update({"evil.weight": torch.zeros(1)})),
        f"1 tensors missing: {OURS}; 1 tensors left over: evil.weight",
    ),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_tensors_that_do_not_fit_in_a_folder(misfit: str, folder: Path) -> None:
    change, fault = MISFITS[misfit]
    reweigh(folder, lambda state: change(state, QUERY["folder"]))
    assert f"the weights of {folder} do not fit its config: {fault}" in refusal(folder)


@pytest.mark.parametrize("misfit", MISFITS)
def test_tensors_that_do_not_fit_in_a_nemo_file(misfit: str, tmp_path: Path) -> None:
    change, fault = MISFITS[misfit]
    with NemoArchive(CASE) as archive:
        state = archive.state()
        change(state, QUERY["nemo"])
        tokens = {n: archive.read(n) for n in archive.sizes() if n not in (CONFIG, WEIGHTS)}
        write_archive(path := tmp_path / "changed.nemo", archive.config(), state, tokens)
    if misfit in ("left over", "both"):
        assert refusal(path) == f"{path}: 1 tensors left over that no table knows: evil.weight"
    else:
        assert f"the weights of {path} do not fit its config: {fault}" in refusal(path)


def test_weights_that_are_missing_cut_or_not_weights(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    for content in (None, b"", whole[:4], whole[:1000], whole[:-1], b"\x80\x04" + whole, whole[:8] + b"\xff" + whole[9:]):
        (folder / "model.safetensors").unlink(missing_ok=True)
        if content is not None:
            (folder / "model.safetensors").write_bytes(content)
        assert f"cannot read the weights {folder}/model.safetensors: " in refusal(folder)


# Files -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret", "..", "C:\\x", "a\\b"])
def test_no_file_of_a_folder_lies_outside(name: str, folder: Path) -> None:
    (folder.parent / "secret").write_text("hidden")
    rewrite(folder, lambda d: d["tokenizer"].update(file=name))
    text = refusal(folder)
    assert "leads out of the checkpoint; refused" in text and "hidden" not in text
    with pytest.raises(CheckpointError, match="leads out"):
        check_member_name(name)


def test_a_link_in_a_folder_may_lead_within_it_and_not_out(folder: Path) -> None:
    (folder / "tokenizer.model").rename(folder / "real.model")
    (folder / "tokenizer.model").symlink_to("real.model")
    sonant.load(folder, device="cpu")
    (folder / "real.model").rename(folder.parent / "outside.model")
    (folder / "tokenizer.model").unlink()
    (folder / "tokenizer.model").symlink_to("../outside.model")
    assert f"the file 'tokenizer.model' lies outside {folder}" in refusal(folder)


def test_a_snapshot_in_the_hubs_cache_is_links_into_its_blobs(folder: Path, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "0123", tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for n, file in enumerate(sorted(folder.iterdir())):
        shutil.copy(file, blobs / str(n))
        (snapshot / file.name).symlink_to(f"../../blobs/{n}")
    assert sonant.load(snapshot, device="cpu").tokenizer.vocab_size == 96
    (tmp_path / "secret").write_bytes((folder / "tokenizer.model").read_bytes())
    (snapshot / "tokenizer.model").unlink()
    (snapshot / "tokenizer.model").symlink_to("../../../secret")
    assert "lies outside" in refusal(snapshot)


def test_a_file_that_is_not_there_or_not_what_it_should_be(folder: Path) -> None:
    (folder / "tokenizer.model").write_bytes(b"no tokenizer")
    assert "tokenizer.model is not a SentencePiece model" in refusal(folder)
    (folder / "tokenizer.model").unlink()
    assert f"{folder} lacks the file 'tokenizer.model' that its config names" in refusal(folder)


def test_files_are_read_once_and_remembered(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    found = Files.inside(tmp_path)
    assert found.read("a.txt") == b"a"
    (tmp_path / "a.txt").unlink()
    assert found.read("a.txt") == b"a"
    assert found.read_so_far == {"a.txt": b"a"}
    with pytest.raises(ConfigError, match=r"names the file 'b\.txt', which cannot be read: .*No such file"):
        Files.beside(tmp_path).read("b.txt")
    with pytest.raises(CheckpointError, match=r"x\.nemo lacks the file 'b\.txt'"):
        Files.of({"a.txt": b"a"}, "x.nemo").read("b.txt")
