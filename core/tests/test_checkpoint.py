"""Models are opened and saved in every form without losing a number, and a checkpoint that does not hold together says where."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn

import sonant
from sonant import weights
from sonant.errors import CheckpointError, ConfigError, SonantError, UnknownName
from sonant.files import Files, check_member_name
from sonant.nemo.archive import CONFIG, WEIGHTS, NemoArchive, write_archive

CASES = Path(__file__).resolve().parents[2] / "tests" / "nemo-cases"
NAMES = sorted(path.stem for path in CASES.glob("*.nemo"))
BPE, CHAR, HYBRID = "fastconformer_ctc_bpe", "conformer_rnnt_char", "fastconformer_hybrid_tdt_ctc_bpe"
WAV = torch.sin(torch.arange(24000) / 20 + torch.arange(24000) ** 2 / 4e6)[None] * 0.3
LENS = torch.tensor([24000])


@cache
def model(name: str) -> Any:
    return sonant.load(CASES / f"{name}.nemo", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder that a case converts to; not to be changed."""
    top = tmp_path_factory.mktemp("folders")

    @cache
    def folder(name: str) -> Path:
        return sonant.save(model(name), top / name)

    return folder


@pytest.fixture
def folder(folders: Callable[[str], Path], tmp_path: Path) -> Path:
    """A folder to damage."""
    return Path(shutil.copytree(folders(BPE), tmp_path / "model"))


def rewrite(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    data = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    change(data)
    (folder / "config.yaml").write_text(yaml.safe_dump(data), "utf-8")


def reweigh(folder: Path, change: Callable[[weights.State], Any]) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")


def refusal(path: Path | str, kind: type[SonantError] = CheckpointError, **options: Any) -> str:
    """The one line that opening answers with."""
    with pytest.raises(kind) as caught:
        sonant.load(path, device="cpu", **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def assert_equal(state: weights.State, expected: weights.State) -> None:
    assert state.keys() == expected.keys()
    for name, tensor in expected.items():
        assert state[name].dtype == tensor.dtype and torch.equal(state[name], tensor), name


@torch.inference_mode()
def outputs(found: Any) -> list[torch.Tensor]:
    """What it computes on a sweep, at every stage."""
    feats, lens = found.preprocessor(WAV, LENS)
    enc, lens = found.encoder(feats, lens)
    heads = [
        head(enc) if family == "ctc" else head(enc, torch.ones(1, 3, dtype=torch.int64))
        for family, head in found.decoders.items()
    ]
    return [feats, enc, lens, *heads]


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


def files(archive: NemoArchive) -> dict[str, Any]:
    """The files by their plain names; a vocabulary as its lines. SentencePiece's own list of pieces nobody reads."""
    plain = {n.split("_", 1)[1]: archive.read(n) for n in archive.sizes() if n not in (CONFIG, WEIGHTS)}
    plain.pop("tokenizer.vocab", None)
    return {n: content.decode().strip().split("\n") if n.endswith(".txt") else content for n, content in plain.items()}


SECTIONS = ("preprocessor", "spec_augment", "encoder", "decoder", "joint", "labels", "sample_rate", "model_defaults")
OTHERWISE = {"fuse_loss_wer"}  # how a loss is computed in training; NeMo decodes with either


def compare(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """What both documents say of the network is the same, and what only NeMo's said is its default or about training."""
    compared = 0
    for section in SECTIONS:
        mine, original = ours.get(section), theirs.get(section)
        if not isinstance(original, dict):
            assert mine == original or original is None
            continue
        for path, value in leaves(original):
            if path in dict(leaves(mine)) and path[-1] not in OTHERWISE:
                assert dict(leaves(mine))[path] == value, (section, path)
                compared += 1
        gone = {path[-1] for path, _ in leaves(original)} - {path[-1] for path, _ in leaves(mine)}
        assert gone <= {
            *("reduction", "reduction_position", "reduction_factor", "pos_emb_max_len", "dropout_emb", "dropout_att"),
            *("use_pytorch_sdpa", "use_pytorch_sdpa_backends", "fused_batch_size"),
        }
    assert compared > 30


def leaves(value: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
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
        assert (folder / "tokenizer.model").read_bytes() == files(archive)["tokenizer.model"]


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


# Names -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["none.nemo", "./none", "/none/none", "~/none", "none.yaml"])
def test_a_path_that_is_not_there(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert refusal(name) == f"there is no file or folder {name}"
    assert refusal(tmp_path / name.strip("~./")) == f"there is no file or folder {tmp_path / name.strip('~./')}"


def test_a_name_that_is_not_known_is_explained() -> None:
    text = refusal("parakeet-tdt-0.6b-v9", UnknownName)
    assert "Did you mean 'parakeet-tdt-0.6b-v" in text and "`sonant models`" in text


def test_a_folder_or_file_of_something_else(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path} is not a model: it has neither config.yaml nor model_config.yaml"
    assert "a.wav is not a whole .nemo archive" in refusal(CASES / "a.wav")


# Folders that do not hold together ---------------------------------------------------------------------------------------


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
    assert "The model was saved with acme-speech 2.1, sonant-asr " in text


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
    with NemoArchive(CASES / f"{BPE}.nemo") as archive:
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
    assert f"the file 'tokenizer.model', which lies outside {folder}" in refusal(folder)


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
    assert "which lies outside" in refusal(snapshot)


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


# Saving ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["out.nemo", "out"])
def test_a_module_that_sonant_did_not_build_is_not_saved(target: str, tmp_path: Path) -> None:
    for foreign in (nn.Linear(2, 2), model(BPE).encoder):
        with pytest.raises(CheckpointError, match=f"{type(foreign).__name__} has no blueprint"):
            sonant.save(foreign, tmp_path / target)
    assert os.listdir(tmp_path) == []


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
