"""Models are opened and saved in every form without losing a number, placed where they were asked to be, and found by name."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

import sonant
from checkpoint_cases import BPE, CASES, CHAR, HYBRID, NAMES, assert_equal, model, outputs, refusal, rewrite
from sonant.errors import CheckpointError, ConfigError
from sonant.nemo.archive import CONFIG, WEIGHTS, NemoArchive, write_archive

# Round trips -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_from_nemo_to_a_folder_and_back(name: str, folders: Callable[[str], Path], tmp_path: Path) -> None:
    opened = sonant.load(folders(name), device="cpu")
    assert_equal(opened.state_dict(), model(name).state_dict())
    for ours, theirs in zip(outputs(opened), outputs(model(name)), strict=True):
        assert torch.equal(ours, theirs)
    written = sonant.save(opened, tmp_path / "back.nemo")
    with NemoArchive(CASES / f"{name}.nemo") as first, NemoArchive(written) as last:
        assert_equal(last.state(), first.state())
        assert files(last) == files(first)
        assert last.config()["target"] == first.config()["target"]
        compare(last.config(), first.config())
    for ours, theirs in zip(outputs(sonant.load(written, device="cpu")), outputs(model(name)), strict=True):
        assert torch.equal(ours, theirs)


def files(archive: NemoArchive) -> list[tuple[str, Any]]:
    """The files by their plain names; a vocabulary as its lines. SentencePiece's own list of pieces nobody reads, and a second
    model is compared by what it computes."""
    names = {n: re.sub(r"^\d+_", "", n.split("_", 1)[1]) for n in archive.sizes() if n not in (CONFIG, WEIGHTS)}
    several = list(names.values()).count("tokenizer.model") > 1  # where NeMo leaves special tokens out of the lists
    left_out = (*LEFT_OUT, "vocab.txt") if several else LEFT_OUT
    found = [(plain, archive.read(n)) for n, plain in names.items() if plain not in left_out]
    return sorted((n, content.decode().strip().split("\n") if n.endswith(".txt") else content) for n, content in found)


LEFT_OUT = ("tokenizer.vocab", "asr_model_config.yaml", "asr_model_weights.ckpt")
SECTIONS = ("preprocessor", "spec_augment", "encoder", "decoder", "joint", "labels", "sample_rate", "model_defaults")
OTHERWISE = {"fuse_loss_wer"}  # how a loss is computed in training; NeMo decodes with either
SAME = {f"nemo.collections.asr.modules.{kind}RNNTJoint": "nemo.collections.asr.modules.RNNTJoint" for kind in ("", "Sampled")}


def compare(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """What both documents say of the network is the same, and what only NeMo's said is its default or about training."""
    compared = 0
    for section in SECTIONS:
        mine, original = ours.get(section), theirs.get(section)
        if not isinstance(original, dict):
            assert mine == original or original is None
            continue
        if section == "model_defaults" and mine is None:
            continue  # what other sections refer to: they hold the values themselves
        written, read = dict(leaves(mine)), dict(leaves(original))
        for path, value in read.items():
            if path not in written or path[-1] in OTHERWISE:
                continue
            if (section, path) == (
                "encoder",
                ("_target_",),
            ) and "adapters" in ours:
                continue  # NeMo finds the class that has adapters by itself, from either
            if (*path[:-1], f"{path[-1]}_size_factor") in read:  # as a kernel's, which is multiplied out
                continue
            assert written[path] == (SAME.get(value, value) if isinstance(value, str) else value), (section, path)
            compared += 1
        gone = {path[-1] for path, _ in leaves(original)} - {path[-1] for path, _ in leaves(mine)}
        assert gone <= {
            *("reduction", "reduction_position", "reduction_factor", "pos_emb_max_len"),
            *("use_pytorch_sdpa", "use_pytorch_sdpa_backends", "fused_batch_size", "kernel_size_factor", "stft_conv"),
            "n_samples",  # of a sampled softmax, in training
        }
    assert compared > 20


def leaves(value: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Every value with the keys that lead to it; a list of sections by their numbers."""
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        value = {str(number): item for number, item in enumerate(value)}
    if not isinstance(value, dict):
        return [(path, value)]
    return [leaf for key, inner in value.items() for leaf in leaves(inner, (*path, key))]


def test_a_folder_holds_a_filled_config_the_weights_and_the_files_and_says_what_made_it(folders: Callable[[str], Path]) -> None:
    folder = folders(HYBRID)
    assert sorted(os.listdir(folder)) == ["config.yaml", "model.safetensors", "tokenizer.model"]
    data = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    assert list(data) == ["sonant", "task", "preprocessor", "augmentation", "tokenizer", "encoder", "decoder", "aux_decoder"]
    assert data["sonant"]["version"] == sonant.__version__
    assert data["sonant"]["distributions"]["encoder"].startswith("sonant-encoders ")
    assert data["decoder"]["name"] == "tdt" and data["encoder"]["n_layers"] == 2
    assert data == yaml.safe_load((folders(HYBRID) / "config.yaml").read_text("utf-8"))
    with NemoArchive(CASES / f"{HYBRID}.nemo") as archive:
        assert (folder / "tokenizer.model").read_bytes() == dict(files(archive))["tokenizer.model"]


def test_an_unpacked_nemo_folder_opens_like_the_file(tmp_path: Path) -> None:
    with NemoArchive(CASES / f"{BPE}.nemo") as archive:
        for name in archive.sizes():
            (tmp_path / name).write_bytes(archive.read(name))
    assert_equal(sonant.load(tmp_path, device="cpu").state_dict(), model(BPE).state_dict())


def test_saving_again_over_a_model(folder: Path, tmp_path: Path) -> None:
    opened = sonant.load(folder, device="cpu")
    with torch.no_grad():
        opened.encoder.pre_encode.out.weight.mul_(2)
    for target in (folder, tmp_path / "again.nemo"):  # its weights are mapped from the very file that is replaced
        sonant.save(opened, target)
        sonant.save(opened, target)
        assert_equal(sonant.load(target, device="cpu").state_dict(), opened.state_dict())
    assert sorted(os.listdir(folder)) == ["config.yaml", "model.safetensors", "tokenizer.model"]


def test_a_config_builds_a_fresh_model_that_is_saved_with_the_files_it_named_anywhere(
    tmp_path: Path, folders: Callable[[str], Path]
) -> None:
    home, other = tmp_path / "configs", tmp_path / "tokens"
    home.mkdir()
    other.mkdir()
    shutil.copy(folders(BPE) / "tokenizer.model", other / "en.model")
    config = {
        "task": "asr",
        "preprocessor": "log_mel",
        "encoder": {"name": "fastconformer", "n_layers": 1, "d_model": 16, "n_heads": 2, "subsampling_conv_channels": 8},
        "decoder": "ctc",
    }
    for n, named in enumerate([str(other / "en.model"), "../tokens/en.model"]):
        (home / "model.yaml").write_text(yaml.safe_dump(config | {"tokenizer": {"name": "sentencepiece", "file": named}}))
        fresh = sonant.load(home / "model.yaml", device="cpu", overrides=["encoder.d_model=24"])
        assert fresh.encoder.d_out == 24 and fresh.tokenizer.vocab_size == 96
        for target in (tmp_path / f"saved{n}", tmp_path / f"saved{n}.nemo"):
            opened = sonant.load(sonant.save(fresh, target), device="cpu")
            assert_equal(opened.state_dict(), fresh.state_dict())
            assert opened.tokenizer.encode("front") == fresh.tokenizer.encode("front")
        assert sorted(os.listdir(tmp_path / f"saved{n}")) == ["config.yaml", "en.model", "model.safetensors"]
        with NemoArchive(tmp_path / f"saved{n}.nemo") as archive:
            assert not [name for name in archive.sizes() if "/" in name]


def test_a_file_that_is_called_like_the_config_stays_itself(tmp_path: Path, folders: Callable[[str], Path]) -> None:
    fresh = sonant.load(folders(BPE), device="cpu")
    config = fresh.blueprint.config.to_dict() | {"tokenizer": {"name": "sentencepiece", "file": "config.yaml"}}
    (tmp_path / "from").mkdir()
    shutil.copy(folders(BPE) / "tokenizer.model", tmp_path / "from" / "config.yaml")
    (tmp_path / "from" / "m.yaml").write_text(yaml.safe_dump(config))
    saved = sonant.save(sonant.load(tmp_path / "from" / "m.yaml", device="cpu"), tmp_path / "to")
    assert sonant.load(saved, device="cpu").tokenizer.vocab_size == 96


# Placing -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "auto"])
def test_dtype_casts_the_network_and_not_the_features(dtype: str) -> None:
    opened = sonant.load(CASES / f"{BPE}.nemo", device="cpu", dtype=dtype)
    wanted = {"auto": torch.float32}.get(dtype) or getattr(torch, dtype)
    floats = {k: v.dtype for k, v in opened.state_dict().items() if v.is_floating_point()}
    assert {d for k, d in floats.items() if not k.startswith("preprocessor.")} == {wanted}
    assert {d for k, d in floats.items() if k.startswith("preprocessor.")} == {torch.float32}
    assert not opened.training
    assert {p.device.type for p in opened.parameters()} == {"cpu"}


@pytest.mark.parametrize("form", ["folder", "nemo"])
def test_stored_dtypes_survive_conversion(form: str, tmp_path: Path) -> None:
    half = sonant.load(CASES / f"{BPE}.nemo", device="cpu", dtype="bfloat16")
    saved = sonant.save(half, tmp_path / ("half" if form == "folder" else "half.nemo"))
    kept = sonant.load(saved, device="cpu", dtype="stored")
    assert_equal(kept.state_dict(), half.state_dict())
    other = sonant.save(kept, tmp_path / ("other.nemo" if form == "folder" else "other"))
    assert_equal(sonant.load(other, device="cpu", dtype="stored").state_dict(), half.state_dict())
    assert {p.dtype for p in sonant.load(other, device="cpu").parameters()} == {torch.float32}


def test_features_stored_in_half_precision_are_computed_in_float32(tmp_path: Path) -> None:
    with NemoArchive(CASES / f"{BPE}.nemo") as archive:
        state = {k: v.half() if v.is_floating_point() else v for k, v in archive.state().items()}
        document = archive.config()
        tokens = {n: archive.read(n) for n in archive.sizes() if n not in (CONFIG, WEIGHTS)}
    write_archive(tmp_path / "half.nemo", document, state, tokens)
    opened = sonant.load(tmp_path / "half.nemo", device="cpu")
    assert {v.dtype for v in opened.preprocessor.state_dict().values()} == {torch.float32}
    assert outputs(opened)[1].dtype == torch.float32


@pytest.mark.parametrize("options", [{"device": "warp"}, {"dtype": "int8"}])
def test_a_place_that_is_not_there(options: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="warp|int8"):
        sonant.load(CASES / f"{BPE}.nemo", **{"device": "cpu"} | options)


def test_overrides_are_for_configs() -> None:
    assert "cannot be overridden (encoder.n_layers=1)" in refusal(
        CASES / f"{BPE}.nemo", ConfigError, overrides=["encoder.n_layers=1"]
    )


# Saving ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["out.nemo", "out"])
def test_a_module_that_sonant_did_not_build_is_not_saved(target: str, tmp_path: Path) -> None:
    for foreign in (nn.Linear(2, 2), model(BPE).encoder):
        with pytest.raises(CheckpointError, match=f"{type(foreign).__name__} has no blueprint"):
            sonant.save(foreign, tmp_path / target)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("target", "form", "reason"),
    [
        ("folder", "hf", "form='hf': there are auto, sonant, nemo, huggingface"),
        ("model.nemo", "huggingface", "the form huggingface is a folder"),
    ],
)
def test_a_form_that_is_none_or_does_not_fit_is_refused(target: str, form: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=reason):
        sonant.save(model(BPE), tmp_path / target, form=form)
    assert not list(tmp_path.iterdir())


def test_a_part_without_counterpart_in_nemo_is_saved_as_a_folder_only(tmp_path: Path) -> None:
    built = sonant.build(
        {
            "task": "asr",
            "preprocessor": "log_mel",
            "tokenizer": {"name": "char", "labels": [" ", "a"]},
            "encoder": {"name": "transformer", "n_layers": 1, "d_model": 16, "n_heads": 2},
            "decoder": "ctc",
        }
    )
    with pytest.raises(CheckpointError, match=r"encoder 'transformer' \(sonant-encoders .*\) has no counterpart in NeMo"):
        sonant.save(built, tmp_path / "out.nemo")
    assert not (tmp_path / "out.nemo").exists()
    assert_equal(sonant.load(sonant.save(built, tmp_path / "out"), device="cpu").state_dict(), built.state_dict())


def test_what_a_search_is_and_how_it_was_trained_are_not_stored(folder: Path, tmp_path: Path) -> None:
    rewrite(folder, lambda d: d.update(search={"name": "ctc_greedy"}, optim={"name": "adamw"}))
    opened = sonant.load(folder, device="cpu")
    assert opened.search is not None
    saved = yaml.safe_load((sonant.save(opened, tmp_path / "saved") / "config.yaml").read_text())
    assert "search" not in saved and "optim" not in saved


def test_words_are_those_of_nemo_after_the_round_trip(folders: Callable[[str], Path]) -> None:
    for name in (BPE, CHAR, HYBRID):
        expected = json.loads((CASES / f"{name}.json").read_text())["transcribe_text"]
        found = sonant.load(folders(name), device="cpu").transcribe([CASES / "a.wav", CASES / "b.wav"])
        assert [t.text for t in found] == expected
