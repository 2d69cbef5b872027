"""`.nemo` files are opened without unpacking or running anything, and what could lead out of them is refused as a whole."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from sonant import weights
from sonant.errors import CheckpointError
from sonant.nemo.archive import CONFIG, WEIGHTS, NemoArchive, artifact_name, write_archive

CASES = Path(__file__).resolve().parents[2] / "tests" / "nemo-cases"
STATE = {"encoder.weight": torch.arange(6.0).reshape(2, 3), "encoder.count": torch.tensor(7)}
DOCUMENT = {"target": "some.Model", "encoder": {"d_model": 4, "layers": [1, 2]}, "width": "${encoder.d_model}"}


def saved(value: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.type, entry.size, entry.linkname = kind, len(content), link
    return entry, content


def sound(prefix: str = "./", document: Any = DOCUMENT, state: Any = STATE) -> list[tuple[tarfile.TarInfo, bytes]]:
    text = document if isinstance(document, (bytes, str)) else yaml.safe_dump(document)
    content = state if isinstance(state, bytes) else saved(state)
    return [
        member(f"{prefix}{CONFIG}", text.encode() if isinstance(text, str) else text),
        member(f"{prefix}0123_tokenizer.model", b"tokens"),
        member(f"{prefix}{WEIGHTS}", content),
    ]


def archive(path: Path, members: Iterable[tuple[tarfile.TarInfo, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for entry, content in members:
            tar.addfile(entry, io.BytesIO(content))
    return path


def assert_whole(path: Path) -> None:
    with NemoArchive(path) as found:
        assert found.config() == DOCUMENT | {"width": 4}
        assert found.read("0123_tokenizer.model") == b"tokens"
        assert found.sizes()["0123_tokenizer.model"] == 6
        state = found.state()
    assert_equal(state, STATE)


def assert_equal(state: weights.State, expected: weights.State) -> None:
    assert list(state) == list(expected)
    for name, tensor in expected.items():
        assert state[name].dtype == tensor.dtype and state[name].shape == tensor.shape, name
        torch.testing.assert_close(state[name], tensor, rtol=0, atol=0, equal_nan=True)


# Forms -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["./", ""])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_archives_of_every_form(prefix: str, mode: str, format: int, tmp_path: Path) -> None:
    path = tmp_path / "a.nemo"
    with tarfile.open(path, mode, format=format) as tar:
        for entry, content in [member("." if prefix else "folder", kind=tarfile.DIRTYPE), *sound(prefix)]:
            tar.addfile(entry, io.BytesIO(content))
    assert_whole(path)
    assert os.listdir(tmp_path) == ["a.nemo"]  # nothing was unpacked beside it


def test_an_unpacked_folder(tmp_path: Path) -> None:
    for entry, content in sound(""):
        (tmp_path / entry.name).write_bytes(content)
    (tmp_path / "folder").mkdir()
    assert_whole(tmp_path)


def test_a_model_node_at_the_top(tmp_path: Path) -> None:
    document = {"model": {"target": "some.Model", "a": "${b}", "b": 3}, "trainer": {"devices": 1}}
    with NemoArchive(archive(tmp_path / "a.nemo", sound(document=document))) as found:
        assert found.config() == {"target": "some.Model", "a": 3, "b": 3}


def test_the_form_of_before_2021(tmp_path: Path) -> None:
    document = {
        "target": "some.Model",
        "encoder": {"cls": "some.Encoder", "params": {"d_model": 4, "inner": {"target": "some.Inner", "params": {"x": 1}}}},
        "decoder": {"_target_": "some.Decoder", "params": {"kept": 1}},
        "list": [{"cls": "some.A", "params": {}}],
    }
    with NemoArchive(archive(tmp_path / "a.nemo", sound(document=document))) as found:
        assert found.config() == {
            "target": "some.Model",
            "encoder": {"_target_": "some.Encoder", "d_model": 4, "inner": {"_target_": "some.Inner", "x": 1}},
            "decoder": {"_target_": "some.Decoder", "params": {"kept": 1}},
            "list": [{"_target_": "some.A"}],
        }


@pytest.mark.parametrize("case", sorted(CASES.glob("*.nemo")), ids=lambda path: path.stem)
def test_a_checkpoint_of_nemo_is_read_as_torch_reads_it(case: Path, tmp_path: Path) -> None:
    with tarfile.open(case) as tar:
        tar.extractall(tmp_path, filter="data")
    expected = torch.load(tmp_path / WEIGHTS, weights_only=True)
    for form in (case, tmp_path):
        with NemoArchive(form) as found:
            state = found.state()
            assert set(found.sizes()) == {p.name for p in tmp_path.iterdir()}
        assert_equal(state, dict(expected))
    zipped = tmp_path / "zipped.nemo"
    zipped.write_bytes(gzip.compress(case.read_bytes(), 1))
    with NemoArchive(zipped) as found:
        assert_equal(found.state(), dict(expected))


# Hostile archives --------------------------------------------------------------------------------------------------------

OUTSIDE = ["../evil", "./../evil", "a/../../evil", "/etc/evil", "..", "C:\\evil", "a\\..\\..\\evil", "C:evil", "//evil"]
LINKS = {
    "symlink": tarfile.SYMTYPE,
    "hard link": tarfile.LNKTYPE,
    "character device": tarfile.CHRTYPE,
    "block device": tarfile.BLKTYPE,
    "fifo": tarfile.FIFOTYPE,
}


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("place", [0, 3])
def test_names_that_lead_out_are_refused(name: str, place: int, tmp_path: Path) -> None:
    members = sound()
    members.insert(place, member(name, b"evil"))
    with pytest.raises(CheckpointError, match=r"a\.nemo: the member name .* leads out of the checkpoint; refused"):
        NemoArchive(archive(tmp_path / "a.nemo", members))
    assert os.listdir(tmp_path) == ["a.nemo"]


@pytest.mark.parametrize("kind", LINKS)
@pytest.mark.parametrize("target", [CONFIG, "/etc/passwd", "../../etc/passwd"])
def test_links_and_devices_are_refused(kind: str, target: str, tmp_path: Path) -> None:
    members = [*sound(), member("./tokenizer.model", kind=LINKS[kind], link=target)]
    with pytest.raises(CheckpointError, match=r"'\./tokenizer\.model' is a link, a device or a sparse file; refused"):
        NemoArchive(archive(tmp_path / "a.nemo", members))


def test_weights_that_are_a_link_are_refused(tmp_path: Path) -> None:
    members = [*sound()[:2], member(f"./{WEIGHTS}", kind=tarfile.SYMTYPE, link="/etc/passwd")]
    with pytest.raises(CheckpointError, match="refused"):
        NemoArchive(archive(tmp_path / "a.nemo", members))


def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    """A few bytes can stand for terabytes of zeros, and its samples do not lie in the archive as they are."""
    entry, _ = member("./big.bin")
    entry.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "0,0", "GNU.sparse.size": str(2**50)}
    path = tmp_path / "a.nemo"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for one, content in [*sound(), (entry, b"")]:
            tar.addfile(one, io.BytesIO(content))
    with tarfile.open(path) as tar:
        assert tar.getmember("./big.bin").issparse()
    with pytest.raises(CheckpointError, match=r"'\./big\.bin' is a link, a device or a sparse file; refused"):
        NemoArchive(path)


@pytest.mark.parametrize(
    "content", [b"", b"\x1f\x8b", b"PK\x03\x04" + bytes(100), b"no archive", bytes(20000), os.urandom(20000)]
)
def test_what_is_no_archive(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.nemo"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.nemo is not a (whole \.nemo archive|NeMo checkpoint)"):
        NemoArchive(path)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot open .*none\.nemo: No such file"):
        NemoArchive(tmp_path / "none.nemo")


@pytest.mark.parametrize(("drop", "named"), [([0], CONFIG), ([2], WEIGHTS), ([0, 2], f"{CONFIG} and no {WEIGHTS}")])
def test_an_archive_of_something_else(drop: list[int], named: str, tmp_path: Path) -> None:
    members = [m for n, m in enumerate(sound()) if n not in drop]
    with pytest.raises(CheckpointError, match=f"is not a NeMo checkpoint: it holds no {named}"):
        NemoArchive(archive(tmp_path / "a.nemo", members))
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match="is not a NeMo checkpoint"):
        NemoArchive(tmp_path / "folder")


def outcome(path: Path) -> weights.State | str:
    try:
        with NemoArchive(path) as found:
            found.config()
            return found.state()
    except CheckpointError as error:
        return str(error)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_cut_anywhere_it_is_an_error_or_whole(mode: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.nemo", sound(), mode)
    content = path.read_bytes()
    for end in range(0, len(content), 61):
        path.write_bytes(content[:end])
        found = outcome(path)
        if isinstance(found, str):
            assert str(path) in found
        else:
            assert_equal(found, STATE)
            assert mode == "w" and set(content[end:]) == {0}  # only the padding behind the last member was cut


@pytest.mark.parametrize("seed", range(40))
def test_damage_is_an_error_or_other_numbers_and_never_anything_else(seed: int, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.nemo", sound(), ["w", "w:gz"][seed % 2])
    content = bytearray(path.read_bytes())
    generator = torch.Generator().manual_seed(seed)
    for place in torch.randint(len(content), (20,), generator=generator).tolist():
        content[place] ^= 0x55
    path.write_bytes(content)
    outcome(path)  # whatever else is raised fails the test


# Config ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: [", "is not plain YAML"),
        ("just text", "holds a str, not a mapping"),
        ("- 1\n- 2", "holds a list, not a mapping"),
        ("a: !!python/object/apply:os.system ['touch MARK']", "is not plain YAML"),
        ("a: !!python/name:os.system", "is not plain YAML"),
        ("a: ${oc.env:HOME}", "would look outside the document; refused"),
        (b"a: \xff\xfe", "utf-8"),
        ("a: &a [*a]", "nested in itself"),
        ("a: &a {b: *a}", "nested in itself"),
        ("a: " + "[" * 100_000 + "]" * 100_000, "is not plain YAML: maximum recursion depth"),
        ("a: " + "{b: " * 100_000 + "}" * 100_000, "is not plain YAML: maximum recursion depth"),
        ("- " * 100_000, "is not plain YAML: maximum recursion depth"),
        ("\n".join(" " * n + "a:" for n in range(490)), "nested too deeply"),
    ],
)
def test_a_config_that_is_no_plain_document(
    text: str | bytes, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with (
        NemoArchive(archive(tmp_path / "a.nemo", sound(document=text))) as found,
        pytest.raises(CheckpointError, match=rf"a\.nemo:{CONFIG}.*{fault}"),
    ):
        found.config()
    assert not (tmp_path / "MARK").exists()


@pytest.mark.parametrize("bomb", ["aliases", "interpolations"])
def test_a_few_lines_that_stand_for_more_than_a_machine_holds(bomb: str, tmp_path: Path) -> None:
    reference, most = {"aliases": ("*a{}", "100,000"), "interpolations": ("'${{a{}}}'", "2,000,000")}[bomb]
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([reference.format(n - 1)] * 9)}]" for n in range(1, 12))]
    with (
        NemoArchive(archive(tmp_path / "a.nemo", sound(document="\n".join(lines)))) as found,
        pytest.raises(CheckpointError, match=rf"stand(s)? for more than {most} values"),
    ):
        found.config()


# Weights -----------------------------------------------------------------------------------------------------------------


class Evil:
    """Unpickled, it would leave a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


POISON: dict[str, Callable[[Any], bytes]] = {
    "a value": lambda evil: saved({"a": torch.ones(2), "b": evil}),
    "everything": saved,
    "a key": lambda evil: saved({"a": torch.ones(2), evil: 1}),
    "the old format": lambda evil: saved({"a": evil}, _use_new_zipfile_serialization=False),
    "a bare pickle": lambda evil: pickle.dumps({"a": evil}),
}


@pytest.mark.parametrize("poison", POISON)
def test_code_in_the_weights_never_runs(poison: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    content = POISON[poison](Evil(mark))
    path = archive(tmp_path / "a.nemo", sound(state=content))
    with NemoArchive(path) as found, pytest.raises(CheckpointError, match="cannot read the weights of .*nothing was run"):
        found.state()
    folder = tmp_path / "folder"
    folder.mkdir()
    with tarfile.open(path) as tar:
        tar.extractall(folder, filter="data")
    with NemoArchive(folder) as found, pytest.raises(CheckpointError, match="nothing was run"):
        found.state()
    assert not mark.exists()
    with pytest.raises(CheckpointError, match="cannot read the weights"):
        weights.read_safetensors(folder / WEIGHTS)
    assert not mark.exists()
    torch.load(io.BytesIO(content), weights_only=False) if poison != "a bare pickle" else pickle.loads(content)
    assert mark.exists()  # the poison does work


@pytest.mark.parametrize(
    "value",
    [
        {"state_dict": STATE},
        {"a": torch.ones(2), "epoch": 3},
        {"a": [torch.ones(2)]},
        {0: torch.ones(2)},
        [torch.ones(2)],
        torch.ones(2),
        "text",
        None,
    ],
)
def test_weights_that_are_no_flat_dictionary_of_tensors(value: Any, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.nemo", sound(state=saved(value)))
    with NemoArchive(path) as found, pytest.raises(CheckpointError, match=r"a\.nemo are not a flat dictionary of tensors"):
        found.state()


SHARED = torch.arange(12.0)
TENSORS: weights.State = {
    "float": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
    "bfloat16": torch.randn(5, generator=torch.Generator().manual_seed(1)).bfloat16(),
    "half": torch.tensor([1.5, -2.0]).half(),
    "double": torch.tensor([1e300]).double(),
    "integer": torch.tensor([[1, -(2**40)]]),
    "byte": torch.tensor([0, 255], dtype=torch.uint8),
    "truth": torch.tensor([True, False]),
    "not finite": torch.tensor([float("nan"), float("inf")]),
    "scalar": torch.tensor(3.5),
    "empty": torch.zeros(0, 4),
    "transposed": torch.arange(6.0).reshape(2, 3).T,
    "every other": torch.arange(10.0)[::2],
    "tied": SHARED,
    "tied too": SHARED,
    "a view": SHARED[4:8].reshape(2, 2),
}


@pytest.mark.parametrize("form", ["zip", "legacy", "deflated", "parameters", "ordered"])
def test_mapped_tensors_equal_the_copied_ones(form: str, tmp_path: Path) -> None:
    content = saved(TENSORS)
    if form == "legacy":
        content = saved(TENSORS, _use_new_zipfile_serialization=False)
    elif form == "deflated":
        content = repacked(content)
    elif form == "parameters":
        content = saved({k: torch.nn.Parameter(v, requires_grad=v.is_floating_point()) for k, v in TENSORS.items()})
    elif form == "ordered":
        content = saved(torch.nn.Sequential(torch.nn.Linear(2, 2)).state_dict() | TENSORS)
    expected = torch.load(io.BytesIO(content), weights_only=True)
    state = {}
    with NemoArchive(archive(tmp_path / "a.nemo", sound(state=content))) as found:
        state = found.state()
        copied = weights.read_torch(io.BytesIO(content), "a copy")
    shutil.rmtree(tmp_path)  # what is mapped outlives its file's name
    assert_equal({k: v.detach() for k, v in state.items()}, {k: v.detach() for k, v in expected.items()})
    assert_equal({k: v.detach() for k, v in copied.items()}, {k: v.detach() for k, v in expected.items()})


def repacked(content: bytes) -> bytes:
    """With every member compressed, as a tool that packs zip files anew would do."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for info in source.infolist():
            target.writestr(info.filename, source.read(info))
    return packed.getvalue()


def test_changing_a_mapped_tensor_leaves_the_file_alone(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.nemo", sound())
    before = path.read_bytes()
    with NemoArchive(path) as found:
        state = found.state()
    state["encoder.weight"].mul_(-1)
    assert state["encoder.weight"][1, 2] == -5
    assert path.read_bytes() == before
    with NemoArchive(path) as found:
        assert_equal(found.state(), STATE)


# Writing -----------------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "a.nemo"
    write_archive(path, DOCUMENT, TENSORS, {"0123_tokenizer.model": b"tokens", "4567_ü.txt": b""})
    with NemoArchive(path) as found:
        assert found.config() == DOCUMENT | {"width": 4}
        assert_equal(found.state(), TENSORS)
        assert {n: found.read(n) for n in found.sizes() if n not in (CONFIG, WEIGHTS)} == {
            "0123_tokenizer.model": b"tokens",
            "4567_ü.txt": b"",
        }
    with tarfile.open(path) as tar:
        assert all(entry.name.startswith("./") and entry.uid == entry.mtime == 0 for entry in tar)
    assert os.listdir(tmp_path) == ["a.nemo"]


def test_writing_the_same_twice_gives_the_same_bytes_and_failing_leaves_the_old(tmp_path: Path) -> None:
    path = tmp_path / "a.nemo"
    write_archive(path, DOCUMENT, STATE, {})
    first = path.read_bytes()
    write_archive(path, DOCUMENT, STATE, {})
    assert path.read_bytes() == first
    with pytest.raises(yaml.YAMLError):
        write_archive(path, {"a": object()}, STATE, {})
    assert path.read_bytes() == first
    assert os.listdir(tmp_path) == ["a.nemo"]


def test_a_stored_file_is_named_by_its_content() -> None:
    assert artifact_name(b"tokens", "tokenizer.model") == "25d7186fe598a394919623186ca325e2_tokenizer.model"
    assert artifact_name(b"", "vocab.txt") == "d41d8cd98f00b204e9800998ecf8427e_vocab.txt"
