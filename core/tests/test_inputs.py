"""Whatever users hand over becomes a flat list of recordings, in their order; what cannot is refused with its place."""

from __future__ import annotations

import io
import json
import os
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from sonant.errors import AudioError
from sonant.inputs import Item, expand

RATE = 16000
SAMPLES = np.linspace(-0.5, 0.5, RATE, dtype=np.float32)


def sound(path: Path, samples: Any = SAMPLES) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    return path


def manifest(path: Path, *rows: Any) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def names(sources: Any) -> list[str]:
    return [item.name for item in expand(sources)]


# One and many ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_is_one_recording_called_as_it_was_given(kind: Any) -> None:
    (item,) = expand(kind("some/where.wav"))  # whether it exists is found out when it is read
    assert item == Item(Path("some/where.wav"), "some/where.wav")


@pytest.mark.parametrize("many", [list, iter, dict.fromkeys, lambda paths: (path for path in paths)])
def test_many_keep_their_order_and_repeats(many: Any) -> None:
    paths = ["c.wav", "a.wav", "b.wav"]
    assert names(many(paths)) == paths
    assert names(["a.wav", "a.wav"]) == ["a.wav", "a.wav"]


def test_nothing_is_no_recording() -> None:
    assert expand([]) == []


@pytest.mark.parametrize(
    "one",
    [
        SAMPLES,
        np.stack([SAMPLES, SAMPLES]),
        torch.from_numpy(SAMPLES),
        SAMPLES.tolist(),
        list(SAMPLES),
        (SAMPLES, RATE),
        (SAMPLES.tolist(), RATE),
        io.BytesIO(b"x"),
    ],
    ids=["array", "channels", "tensor", "floats", "numpy floats", "pair", "pair of a list", "file object"],
)
def test_what_is_iterable_and_yet_one_recording(one: Any) -> None:
    (item,) = expand(one)
    assert item.source is one
    assert item.name == "input 0"
    assert [item.source is one for item in expand([one, one])] == [True, True]


def test_a_list_of_lists_is_a_list_of_recordings() -> None:
    assert [item.source for item in expand([[0.0, 0.1], [0.2]])] == [[0.0, 0.1], [0.2]]


def test_kinds_mix_and_each_is_called_by_what_is_known_of_it(tmp_path: Path) -> None:
    path = sound(tmp_path / "a.wav")
    with path.open("rb") as stream:
        sources = [path, SAMPLES, stream, (SAMPLES, 8000), str(path)]
        assert names(sources) == [str(path), "input 1", str(path), "input 3", str(path)]
        assert [len(item.read(RATE)) for item in expand(sources)] == [RATE, RATE, RATE, 2 * RATE, RATE]
        assert [item.seconds(RATE) for item in expand(sources)] == [1, 1, 1, 2, 1]


def test_an_item_passes_as_it_is() -> None:
    item = Item("a.wav", "my name", 1.0, 2.0)
    assert [found is item for found in expand([item, "b.wav", item])] == [True, False, True]
    assert expand(item) == [item]


def test_an_item_knows_its_piece(tmp_path: Path) -> None:
    path = sound(tmp_path / "a.wav")
    item = Item(path, "a", 0.25, 0.5)
    assert item.seconds(RATE) == 0.5
    np.testing.assert_array_equal(item.read(RATE), SAMPLES[4000:12000])
    assert Item(path, "a", 0.25).seconds(RATE) == 0.75
    assert Item(path, "a", 5.0).seconds(RATE) == 0


def test_a_name_that_begins_with_a_tilde_is_a_file_and_a_tilde_alone_is_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand("~draft.wav")[0].source == Path("~draft.wav")
    assert expand("~/a.wav")[0] == Item(tmp_path / "a.wav", "~/a.wav")


def test_a_named_pipe_is_read_once_and_kept(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = sound(tmp_path / "a.wav").read_bytes()
    writer = threading.Thread(target=pipe.write_bytes, args=(content,))
    writer.start()
    (item,) = expand(pipe)
    writer.join()
    assert (item.name, item.seconds(RATE)) == (str(pipe), 1.0)
    np.testing.assert_array_equal(item.read(RATE), SAMPLES)


# Folders -----------------------------------------------------------------------------------------------------------------


def test_a_folder_is_searched_to_its_depth_in_order_of_the_names(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "folder.wav").mkdir()
    for name in ("b.wav", "a/z.flac", "a/b/c.wav", "Loud.WAV", "a.flac", "notes.txt", "a/list.jsonl", "wav", "a.wav.part"):
        (tmp_path / name).touch()
    found = expand(tmp_path)
    assert [item.name for item in found] == [str(tmp_path / n) for n in ("Loud.WAV", "a/b/c.wav", "a/z.flac", "a.flac", "b.wav")]
    assert {item.folder for item in found} == {tmp_path}
    assert names(str(tmp_path)) == names(tmp_path)


def test_the_order_of_folders_is_that_of_the_list(tmp_path: Path) -> None:
    first, second, third = sound(tmp_path / "z/1.wav"), sound(tmp_path / "a/2.wav"), sound(tmp_path / "m.wav")
    assert names([tmp_path / "z", third, tmp_path / "a"]) == [str(first), str(third), str(second)]


def test_a_folder_without_recordings_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(AudioError, match=rf"{tmp_path}: no audio files in this folder; looked for .*\.flac .*\.wav"):
        expand(tmp_path)


# Manifests ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_rows_are_relative_to_their_manifest(suffix: str, tmp_path: Path) -> None:
    sound(tmp_path / "clips/a.wav")
    rows = [
        {"audio_filepath": "clips/a.wav", "text": "hello"},
        {"audio_filepath": str(tmp_path / "clips/a.wav"), "duration": 1.0},
    ]
    found = expand(manifest(tmp_path / f"m{suffix}", *rows))
    assert [item.source for item in found] == [tmp_path / "clips/a.wav"] * 2
    assert [item.name for item in found] == [row["audio_filepath"] for row in rows]
    assert [item.row for item in found] == rows
    for item in found:
        np.testing.assert_array_equal(item.read(RATE), SAMPLES)


def test_offset_and_duration_make_a_piece_and_duration_alone_describes_the_whole(tmp_path: Path) -> None:
    sound(tmp_path / "a.wav")
    rows = [
        {"audio_filepath": "a.wav", "offset": 0.5, "duration": 0.25},
        {"audio_filepath": "a.wav", "offset": 0.5},
        {"audio_filepath": "a.wav", "offset": None, "duration": 0.25},
        {"audio_filepath": "a.wav", "duration": 0.9994},  # rounded by whoever wrote it: no reason to lose the end
        {"audio_filepath": "a.wav", "offset": "0.5", "duration": "0.25"},
    ]
    found = [item.read(RATE) for item in expand(manifest(tmp_path / "m.jsonl", *rows))]
    for samples, piece in zip(
        found, [slice(8000, 12000), slice(8000, None), slice(0, 4000), slice(None), slice(8000, 12000)], strict=True
    ):
        np.testing.assert_array_equal(samples, SAMPLES[piece])


def test_pieces_that_follow_each_other_make_the_whole(tmp_path: Path) -> None:
    sound(tmp_path / "a.wav")
    cuts = np.random.default_rng(0).choice(np.arange(1, RATE), 20, replace=False)
    edges = [0, *sorted(cuts.tolist()), RATE]
    rows = [{"audio_filepath": "a.wav", "offset": a / RATE, "duration": (b - a) / RATE} for a, b in pairwise(edges)]
    pieces = [item.read(RATE) for item in expand(manifest(tmp_path / "m.jsonl", *rows))]
    np.testing.assert_array_equal(np.concatenate(pieces), SAMPLES)


def test_blank_lines_a_byte_order_mark_and_line_separators_in_texts(tmp_path: Path) -> None:
    text = "\ufeff" + "\n".join(
        ['{"audio_filepath": "a.wav", "text": "one\u2028two\x85three"}', "", "  ", '{"audio_filepath": "b.wav"}\r']
    )
    (tmp_path / "m.jsonl").write_bytes(text.encode("utf-8"))
    assert names(tmp_path / "m.jsonl") == ["a.wav", "b.wav"]


@pytest.mark.parametrize(
    "row",
    [
        "not json",
        "[1, 2]",
        "5",
        "null",
        '"a.wav"',
        '{"text": "no path"}',
        '{"audio_filepath": null}',
        '{"audio_filepath": 5}',
        '{"audio_filepath": ["a.wav"]}',
        '{"audio_filepath": "a.wav", "offset": "soon"}',
        '{"audio_filepath": "a.wav", "offset": -1}',
        '{"audio_filepath": "a.wav", "offset": NaN}',
        '{"audio_filepath": "a.wav", "offset": 0, "duration": Infinity}',
        '{"audio_filepath": "a.wav", "duration": [1]}',
        '{"audio_filepath": "a.wav"',
    ],
)
def test_a_bad_row_is_named_by_its_line(row: str, tmp_path: Path) -> None:
    path = manifest(tmp_path / "m.jsonl", {"audio_filepath": "a.wav"}, "", row, {"audio_filepath": "b.wav"})
    with pytest.raises(
        AudioError, match=rf'{path}:3: not a manifest row .*expected {{"audio_filepath": "…", "duration": seconds}}'
    ):
        expand(path)


def test_a_manifest_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"audio_filepath": "\xe9.wav"}\n')
    with pytest.raises(AudioError, match=rf"{path}: not a manifest: .*utf-8"):
        expand(path)


def test_a_manifest_that_is_not_there_is_a_recording_that_is_not_there(tmp_path: Path) -> None:
    (item,) = expand(tmp_path / "none.jsonl")
    with pytest.raises(AudioError, match="there is no such file"):
        item.read(RATE)


def test_listing_opens_no_recording(tmp_path: Path) -> None:
    """So that a file which is not there, or cannot be read, costs nothing but itself."""
    path = manifest(tmp_path / "m.jsonl", *({"audio_filepath": f"{n}.wav"} for n in range(2000)))
    assert names(path) == [f"{n}.wav" for n in range(2000)]
