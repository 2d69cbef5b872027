"""Tar files and lhotse's formats: the examples are those of the plain manifest, whatever holds them."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from sonant import audio
from sonant.config import fill
from sonant_training.data import tars
from sonant_training.data.catalog import Catalog, open_catalog
from sonant_training.data.config import DataConfig
from sonant_training.errors import DataError

RATE = 8000

Corpus = Callable[..., Path]


def catalog(folder: Path, **values: Any) -> Catalog:
    return open_catalog(fill(DataConfig, values, "train_ds"), folder)


def heard(found: Catalog) -> dict[str, np.ndarray]:
    """The samples of each example, by its text."""
    assert not found.faults
    rows = [found.row(index) for index in range(len(found))]
    return {row["text"]: found.read(index, row, RATE, None) for index, row in enumerate(rows)}


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys() and one
    for text, samples in one.items():
        assert (samples == other[text]).all()


def rows_of(manifest: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in manifest.read_text().split("\n") if line]


def pack(path: Path, files: dict[str, bytes], mode: str = "w") -> None:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def tarred(manifest: Path, shards: int) -> None:
    """As NeMo packs: examples dealt to `audio_<n>.tar`, the manifest with `shard_id`, and one for each tar file besides."""
    rows = rows_of(manifest)
    folder = manifest.parent
    packed = [row | {"shard_id": number % shards} for number, row in enumerate(rows)]
    for shard in range(shards):
        mine = [row for row in packed if row["shard_id"] == shard]
        pack(
            folder / f"audio_{shard}.tar", {row["audio_filepath"]: (folder / row["audio_filepath"]).read_bytes() for row in mine}
        )
        (folder / f"manifest_{shard}.json").write_text("\n".join(map(json.dumps, mine)))
    (folder / "tarred.json").write_text("\n".join(map(json.dumps, packed)))


def test_tarred_manifests(corpus: Corpus, tmp_path: Path) -> None:
    manifest = corpus([0.5, 0.3, 0.4, 0.2, 0.6])
    plain = heard(catalog(tmp_path, manifest_filepath=manifest.name))
    tarred(manifest, 2)
    one = catalog(tmp_path, manifest_filepath="tarred.json", tarred_audio_filepaths="audio__OP_0..1_CL_.tar")
    many = catalog(tmp_path, manifest_filepath="manifest_{0..1}.json", tarred_audio_filepaths=["audio_0.tar", "audio_1.tar"])
    for path in tmp_path.glob("*.wav"):
        path.unlink()
    assert one.shard.tolist() == [0, 1, 0, 1, 0]
    assert many.shard.tolist() == [0, 0, 0, 1, 1]
    assert_same(heard(one), plain)
    assert_same(heard(many), plain)


def test_the_shard_tells_files_of_one_name_apart(tmp_path: Path) -> None:
    contents = []
    for number in range(2):
        buffer = io.BytesIO()
        soundfile.write(buffer, np.full(RATE, 0.1 * (number + 1)), RATE, format="WAV")
        contents.append(buffer.getvalue())
        pack(tmp_path / f"audio_{number + 5}.tar", {"same.wav": contents[-1]})
    rows = [{"audio_filepath": "same.wav", "text": str(n), "duration": 1.0, "shard_id": n + 5} for n in (1, 0)]
    (tmp_path / "m.json").write_text("\n".join(map(json.dumps, rows)))
    found = heard(catalog(tmp_path, manifest_filepath="m.json", tarred_audio_filepaths="audio_{5..6}.tar"))
    assert {text: round(float(samples[0]), 2) for text, samples in found.items()} == {"0": 0.1, "1": 0.2}


def test_pieces_of_one_file_in_a_tar_file(corpus: Corpus, tmp_path: Path) -> None:
    manifest = corpus([1.0])
    pack(tmp_path / "a_0.tar", {"train_0.wav": (tmp_path / "train_0.wav").read_bytes()})
    whole = audio.read(tmp_path / "train_0.wav", RATE)
    rows = [
        {"audio_filepath": f"train_0-sub{n}.wav", "text": str(n), "offset": 0.25 * n, "duration": 0.25, "shard_id": 0}
        for n in (1, 2)
    ]
    (tmp_path / "m.json").write_text("\n".join(map(json.dumps, rows)))
    found = heard(catalog(tmp_path, manifest_filepath="m.json", tarred_audio_filepaths="a_0.tar"))
    assert_same(found, {"1": whole[2000:4000], "2": whole[4000:6000]})
    assert manifest.exists()


def test_tar_files_without_a_manifest(corpus: Corpus, tmp_path: Path) -> None:
    manifest = corpus([0.5, 0.3, 0.4])
    plain = heard(catalog(tmp_path, manifest_filepath=manifest.name))
    sounds = [(tmp_path / row["audio_filepath"]).read_bytes() for row in rows_of(manifest)]
    pack(
        tmp_path / "w_0.tar", {"./a.wav": sounds[0], "./a.txt": b"text 0\n", "b.WAV": sounds[1], "b.json": b'{"text": "text 1"}'}
    )
    pack(tmp_path / "w_1.tar", {"c.txt": b"ignored", "c.json": b'{"text": "text 2", "duration": 0.4}', "c.wav": sounds[2]})
    found = catalog(tmp_path, tarred_audio_filepaths="w_{0..1}.tar")
    assert_same(heard(found), plain)
    assert found.shard.tolist() == [0, 0, 1]
    assert found.seconds.tolist() == [0.5, 0.3, 0.4]
    assert found.where(2) == f"{tmp_path / 'w_1.tar'}:c.wav"


def test_a_recording_without_a_text_and_a_tar_file_without_recordings(corpus: Corpus, tmp_path: Path) -> None:
    corpus([0.5])
    sound = (tmp_path / "train_0.wav").read_bytes()
    pack(tmp_path / "a.tar", {"a.wav": sound, "b.wav": sound, "b.txt": b"b"})
    found = catalog(tmp_path, tarred_audio_filepaths="a.tar")
    assert [fault.reason for fault in found.faults] == ["there is no .json and no .txt beside a.wav"]
    pack(tmp_path / "empty.tar", {"b.txt": b"b"})
    with pytest.raises(DataError, match=r"empty\.tar: no audio files in this tar file"):
        catalog(tmp_path, tarred_audio_filepaths="empty.tar")


def test_what_is_in_no_tar_file_is_a_bad_example(corpus: Corpus, tmp_path: Path) -> None:
    manifest = corpus([0.5, 0.3])
    tarred(manifest, 1)
    with (tmp_path / "tarred.json").open("a") as file:
        file.write('\n{"audio_filepath": "lost.wav", "text": "lost", "duration": 1.0, "shard_id": 0}')
    found = catalog(tmp_path, manifest_filepath="tarred.json", tarred_audio_filepaths="audio_0.tar")
    assert len(found) == 3
    with pytest.raises(ValueError, match="it is in none of the tar files"):
        found.read(2, found.row(2), RATE, None)


def test_tar_files_that_cannot_be_used(tmp_path: Path) -> None:
    pack(tmp_path / "packed.tar.gz", {"a.wav": b"x" * 1000}, "w:gz")
    (tmp_path / "m.json").write_text('{"audio_filepath": "a.wav", "text": "x", "duration": 1.0}')
    with pytest.raises(DataError, match=r"packed\.tar\.gz: not a whole tar file .*must be unpacked"):
        catalog(tmp_path, manifest_filepath="m.json", tarred_audio_filepaths="packed.tar.gz")
    with pytest.raises(DataError, match=r"nothing\.tar: the tar file cannot be read: No such file"):
        catalog(tmp_path, manifest_filepath="m.json", tarred_audio_filepaths="nothing.tar")


def test_a_tar_file_that_shrinks_is_noticed(corpus: Corpus, tmp_path: Path) -> None:
    tarred(corpus([0.5, 0.3]), 1)
    found = catalog(tmp_path, manifest_filepath="tarred.json", tarred_audio_filepaths="audio_0.tar")
    content = (tmp_path / "audio_0.tar").read_bytes()
    (tmp_path / "audio_0.tar").write_bytes(content[: len(content) // 3])
    with pytest.raises(ValueError, match="ends before it does"):
        found.read(1, found.row(1), RATE, None)


def test_links_in_a_tar_file_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "secret.wav").write_bytes(b"secret")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            info = tarfile.TarInfo("a.wav")
            info.type, info.linkname = kind, str(tmp_path / "secret.wav")
            archive.addfile(info)
    assert list(tars.members(tmp_path / "a.tar")) == []


# lhotse


def lhotse_cuts(manifest: Path) -> Any:
    from lhotse import CutSet, Recording, SupervisionSegment

    cuts = []
    for row in rows_of(manifest):
        recording = Recording.from_file(manifest.parent / row["audio_filepath"])
        cut = recording.to_cut()
        said = {"id": cut.id, "recording_id": recording.id, "start": 0, "duration": cut.duration}
        cut.supervisions = [SupervisionSegment(**said, text=row["text"], language="en", speaker="joe")]
        cuts.append(cut)
    return CutSet.from_cuts(cuts)


@pytest.mark.parametrize("name", ["cuts.jsonl", "cuts.jsonl.gz"])
def test_lhotses_cuts(corpus: Corpus, tmp_path: Path, name: str) -> None:
    manifest = corpus([0.5, 0.3, 0.4])
    lhotse_cuts(manifest).to_file(tmp_path / name)
    found = catalog(tmp_path, cuts_path=name)
    assert_same(heard(found), heard(catalog(tmp_path, manifest_filepath=manifest.name)))
    assert (found.row(1)["lang"], found.row(1)["speaker"]) == ("en", "joe")


def test_a_cut_is_a_piece_of_a_recording_and_one_of_its_channels(tmp_path: Path) -> None:
    from lhotse import CutSet, Recording, SupervisionSegment

    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (RATE, 2)).astype(np.float32)
    soundfile.write(tmp_path / "two.wav", samples, RATE, subtype="FLOAT")
    recording = Recording.from_file(tmp_path / "two.wav")
    cut = recording.to_cut().to_mono()[1].truncate(offset=0.25, duration=0.5)
    cut.supervisions = [SupervisionSegment("s", recording.id, 0, 0.5, channel=1, text="x")]
    CutSet.from_cuts([cut]).to_file(tmp_path / "cuts.jsonl")
    found = heard(catalog(tmp_path, cuts_path="cuts.jsonl"))
    assert (found["x"] == samples[2000:6000, 1]).all()
    assert found["x"] == pytest.approx(cut.load_audio()[0])


def test_lhotses_shar(corpus: Corpus, tmp_path: Path) -> None:
    from lhotse.shar import SharWriter

    manifest = corpus([0.5, 0.3, 0.4, 0.2, 0.6])
    (tmp_path / "shar").mkdir()
    with SharWriter(str(tmp_path / "shar"), fields={"recording": "wav"}, shard_size=2) as writer:
        for cut in lhotse_cuts(manifest):
            writer.write(cut)
    plain = heard(catalog(tmp_path, manifest_filepath=manifest.name))
    for path in tmp_path.glob("*.wav"):
        path.unlink()
    found = catalog(tmp_path, shar_path="shar")
    assert_same(heard(found), plain)
    assert found.shard.tolist() == [0, 0, 1, 1, 2]
    (tmp_path / "shar" / "recording.000001.tar").unlink()
    with pytest.raises(DataError, match=r"cuts\.000001\.jsonl\.gz: its audio, recording\.000001\.tar, is not there"):
        catalog(tmp_path, shar_path="shar")
    with pytest.raises(DataError, match="no shards of lhotse's here"):
        catalog(tmp_path, shar_path=".")


@pytest.mark.parametrize("kind", ["command", "url", "memory"])
def test_what_a_cut_would_have_run_or_fetched_is_refused(corpus: Corpus, tmp_path: Path, kind: str) -> None:
    manifest = corpus([0.5])
    cut = lhotse_cuts(manifest)[0].to_dict()
    cut["recording"]["sources"][0] |= {"type": kind, "source": f"touch {tmp_path}/ran"}
    (tmp_path / "cuts.jsonl").write_text(json.dumps(cut))
    with pytest.raises(
        DataError, match=rf"1 bad, the first: .*cuts\.jsonl:1: the recording of a cut must be one plain file .*{kind}"
    ):
        catalog(tmp_path, cuts_path="cuts.jsonl")
    assert not (tmp_path / "ran").exists()


def test_other_lines_are_no_cuts(tmp_path: Path) -> None:
    (tmp_path / "cuts.jsonl").write_text('{"type": "MixedCut", "id": "a", "tracks": []}\n{"a": 1}\n')
    with pytest.raises(DataError, match="2 bad, the first: .*not one of lhotse's cuts with a recording"):
        catalog(tmp_path, cuts_path="cuts.jsonl")
