"""A checkpoint made to harm is one clear line on the command line, leaves nothing behind, and runs nothing."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sonant.nemo.archive import CONFIG, WEIGHTS, NemoArchive, write_archive

CASES = Path(__file__).resolve().parents[2] / "tests" / "nemo-cases"
BPE, A = CASES / "fastconformer_ctc_bpe.nemo", CASES / "a.wav"


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def parts() -> tuple[dict[str, Any], dict[str, torch.Tensor], dict[str, bytes]]:
    with NemoArchive(BPE) as archive:
        return archive.config(), archive.state(), {n: archive.read(n) for n in archive.sizes() if n not in (CONFIG, WEIGHTS)}


def changed(
    path: Path, *, document: Callable[[dict[str, Any]], Any] | None = None, state: Callable[[dict[str, Any]], Any] | None = None
) -> None:
    config, tensors, tokens = parts()
    if document is not None:
        document(config)
    if state is not None:
        state(tensors)
    write_archive(path, config, tensors, tokens)


def with_member(path: Path, **fields: Any) -> None:
    shutil.copy(BPE, path)
    entry = tarfile.TarInfo()
    for key, value in fields.items():
        setattr(entry, key, value)
    with tarfile.open(path, "a") as tar:
        tar.addfile(entry, io.BytesIO(b""))


LINEAR = "encoder.layers.0.self_attn.linear_q.weight"
HOSTILE: dict[str, tuple[Callable[[Path, Path], Any], str]] = {
    "truncated": (lambda p, _: p.write_bytes(BPE.read_bytes()[:300_000]), "is not a whole .nemo archive"),
    "not a tar": (lambda p, _: p.write_bytes(b"<html>404</html>" * 100), "is not a whole .nemo archive"),
    "empty": (lambda p, _: p.touch(), "is not a whole .nemo archive"),
    "outside": (lambda p, _: with_member(p, name="../../evil"), "'../../evil' leads out of the checkpoint; refused"),
    "absolute": (lambda p, m: with_member(p, name=str(m)), "leads out of the checkpoint; refused"),
    "symlink": (lambda p, _: with_member(p, name="x", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "'x' is a link"),
    "hard link": (lambda p, _: with_member(p, name="x", type=tarfile.LNKTYPE, linkname="/etc/passwd"), "'x' is a link"),
    "code": (lambda p, m: changed(p, state=lambda s: s.update(evil=Evil(m))), "nothing was run"),
    "bare pickle": (lambda p, m: p.write_bytes(pickle.dumps(Evil(m))), "is not a whole .nemo archive"),
    "os.system": (lambda p, _: changed(p, document=lambda d: d.update(target="os.system")), "its class is 'os.system'"),
    "a part os.system": (
        lambda p, _: changed(p, document=lambda d: d["encoder"].update(_target_="os.system")),
        "encoder is 'os.system'",
    ),
    "environment": (
        lambda p, _: changed(p, document=lambda d: d["encoder"].update(d_model="${oc.env:HOME}")),
        "'${oc.env:HOME}' would look outside",
    ),
    "unknown key": (lambda p, _: changed(p, document=lambda d: d["encoder"].update(frob=1)), "does not know: encoder.frob"),
    "a title for the terminal": (
        lambda p, _: changed(p, document=lambda d: d.update({"\x1b]0;owned\x07": 1})),
        "does not know: \\x1b]0;owned\\x07",
    ),
    "missing": (
        lambda p, _: changed(p, state=lambda s: s.pop(LINEAR)),
        "1 tensors missing: encoder.layers.0.attention.query.weight",
    ),
    "left over": (
        lambda p, _: changed(p, state=lambda s: s.update(evil=torch.ones(1))),
        "1 tensors left over that no table knows: evil",
    ),
    "misshapen": (
        lambda p, _: changed(p, state=lambda s: s.update({LINEAR: torch.ones(2, 2)})),
        "(2, 2), the config asks for (32, 32)",
    ),
    "nested": (lambda p, _: changed(p, state=lambda s: s.update(deep={"a": torch.ones(1)})), "not a flat dictionary of tensors"),
    "absurd sizes": (
        lambda p, _: changed(p, document=lambda d: d["encoder"].update(d_model=2**40, n_heads=2**20)),
        "Storage size calculation overflowed",
    ),
}


def test_an_unpacked_checkpoint_reads_no_link_out_of_its_folder(tmp_path: Path, command: Any) -> None:
    folder = tmp_path / "hostile"
    with tarfile.open(BPE) as tar:
        tar.extractall(folder, filter="data")
    [tokenizer] = folder.glob("*_tokenizer.model")
    tokenizer.rename(tmp_path / "elsewhere")
    tokenizer.symlink_to("../elsewhere")
    text = command.error("transcribe", A, "--device", "cpu", "--model", folder)
    assert f"the file '{tokenizer.name}' lies outside {folder}" in text


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_checkpoint_is_one_clear_line(attack: str, tmp_path: Path, command: Any) -> None:
    make, fault = HOSTILE[attack]
    path, mark = tmp_path / "hostile.nemo", tmp_path / "mark"
    make(path, mark)
    for arguments in (["transcribe", A, "--device", "cpu", "--model", path], ["convert", path, tmp_path / "out"]):
        text = command.error(*arguments)
        assert str(path) in text and fault in text
    assert os.listdir(tmp_path) == ["hostile.nemo"] and not mark.exists()
