"""Results reach standard output, a file or a folder: whole or not at all, each once, and never into what is somebody else's."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sonant import outputs
from sonant.errors import ConfigError
from sonant.inputs import Item, expand
from sonant.results import Span, Transcript


def items(*names: str, **options: Any) -> list[Item]:
    return [Item(name, name, **options) for name in names]


def result(item: Item, text: str | None = None) -> Transcript:
    text = f"text of {item.name}" if text is None else text
    return Transcript(
        text=text, source=item.name, duration=1.0, words=(Span("text", 0.0, 0.5),), segments=(Span(text, 0.0, 1.0),)
    )


def run(
    output: str | Path | None, format: str, found: Sequence[Item], *, only: Sequence[Item] | None = None, **options: Any
) -> list[str]:
    """Write what is not there yet, of `only` or of all; the names of those that were written."""
    sink = outputs.open_sink(None if output is None else str(output), format, found, **options)
    todo = [item for item in (found if only is None else only) if not sink.is_done(item)]
    for item in todo:
        sink.write(item, result(item))
    sink.close()
    return [item.name for item in todo]


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]]


# Standard output ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", [None, "-"])
def test_standard_output_of_text_is_a_line_each(output: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    found = items("a.wav", "b.wav")
    sink = outputs.open_sink(output, "txt", found)
    sink.write(found[0], Transcript(text=""))
    assert capsys.readouterr().out == "\n"  # silence is a line, too, and it is there at once
    sink.write(found[1], Transcript(text="hello"))
    sink.close()
    assert capsys.readouterr().out == "hello\n"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_standard_output_of_json_is_one_value(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    found = items("a.wav", "b.wav", "c.wav")[:count]
    run(None, "json", found)
    value = json.loads(capsys.readouterr().out)
    assert [row["audio_filepath"] for row in (value if count > 1 else [value])] == [item.name for item in found]


@pytest.mark.parametrize("written", [0, 1])
def test_json_of_several_stays_an_array_when_most_of_them_fail(written: int, capsys: pytest.CaptureFixture[str]) -> None:
    found = items("a.wav", "b.wav")
    run(None, "json", found, only=found[:written])
    assert len(json.loads(capsys.readouterr().out)) == written


def test_standard_output_of_jsonl_is_a_row_each(capsys: pytest.CaptureFixture[str]) -> None:
    run(None, "jsonl", items("a.wav", "b.wav"))
    assert [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()] == ["text of a.wav", "text of b.wav"]


@pytest.mark.parametrize(("format", "expected"), [("srt", ""), ("ctm", ""), ("vtt", "WEBVTT\n"), ("txt", "\n")])
def test_silence_is_no_cue_and_no_row(format: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = items("a.wav")
    sink = outputs.open_sink(None, format, found)
    sink.write(found[0], Transcript(text=""))
    sink.close()
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize("format", ["srt", "vtt"])
@pytest.mark.parametrize("output", [None, "all.{}"])
def test_subtitles_of_several_need_a_folder(format: str, output: str | None, tmp_path: Path) -> None:
    target = output and str(tmp_path / output.format(format))
    with pytest.raises(ConfigError, match=f"--format {format} describes one recording, and there are 2: .*--output FOLDER"):
        outputs.open_sink(target, format, items("a.wav", "b.wav"))
    assert files(tmp_path) == []
    assert run(target, format, items("a.wav")) == ["a.wav"]
    assert run(tmp_path / "folder", format, items("a.wav", "b.wav")) == ["a.wav", "b.wav"]
    assert [f for f in files(tmp_path) if "/" in f] == [f"folder/a.{format}", f"folder/b.{format}"]


# One file ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["txt", "json", "ctm"])
def test_a_file_appears_when_all_of_it_is_there(format: str, tmp_path: Path) -> None:
    path = tmp_path / "deep" / f"all.{format}"
    found = items("a.wav", "b.wav")
    sink = outputs.open_sink(str(path), format, found)
    for item in found:
        assert not sink.is_done(item)
        sink.write(item, result(item))
        assert not path.exists()
    sink.close()
    assert files(tmp_path) == [f"deep/all.{format}"]
    text = path.read_text("utf-8")
    if format == "json":
        assert [row["text"] for row in json.loads(text)] == ["text of a.wav", "text of b.wav"]
    else:
        assert text == "".join(result(item).format(format) + "\n" for item in found)


def test_a_run_that_ends_early_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "all.txt"
    path.write_text("what was there")
    found = items("a.wav", "b.wav")
    sink = outputs.open_sink(str(path), "txt", found, overwrite=True)
    sink.write(found[0], result(found[0]))
    assert path.read_text() == "what was there"
    sink.close(whole=False)
    assert path.read_text() == "what was there" and files(tmp_path) == ["all.txt"]
    sink = outputs.open_sink(str(path), "txt", found, overwrite=True)
    for item in found:
        sink.write(item, result(item))
    sink.close()
    assert path.read_text() == "0.00 0.50 text\n0.00 0.50 text\n"


def test_a_file_that_is_there_is_done_unless_it_is_to_be_overwritten(tmp_path: Path) -> None:
    path, found = tmp_path / "a.txt", items("a.wav")
    assert run(path, "txt", found) == ["a.wav"]
    assert run(path, "txt", found) == []
    assert run(path, "txt", found, overwrite=True) == ["a.wav"]


def test_where_all_failed_no_file_appears(tmp_path: Path) -> None:
    found = items("a.wav")
    run(tmp_path / "a.txt", "txt", found, only=[])
    assert files(tmp_path) == []


@pytest.mark.parametrize("format", ["txt", "jsonl"])
def test_shards_write_their_own_files(format: str, tmp_path: Path) -> None:
    found = items("a.wav", "b.wav", "c.wav", "d.wav")
    for k in (1, 2):
        run(tmp_path / f"all.v2.{format}", format, found, only=found[k - 1 :: 2], shard=(k, 2))
    assert files(tmp_path) == [f"all.v2.1-of-2.{format}", f"all.v2.2-of-2.{format}"]
    if format == "jsonl":
        assert [row["audio_filepath"] for row in rows(tmp_path / "all.v2.2-of-2.jsonl")] == ["b.wav", "d.wav"]


@pytest.mark.parametrize("output", ["file/out.txt", "file/out", "file", "file/out.jsonl"])
def test_an_output_that_cannot_be_is_refused_by_name(output: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    format = "jsonl" if output.endswith("jsonl") else "txt"
    try:
        sink = outputs.open_sink(str(tmp_path / output), format, items("a.wav"))
        sink.write(items("a.wav")[0], result(items("a.wav")[0]))
    except (ConfigError, OSError) as error:
        assert str(tmp_path / "file") in str(error)
    else:
        pytest.fail("nothing was refused")
    assert (tmp_path / "file").read_text() == "in the way"


# Rows --------------------------------------------------------------------------------------------------------------------


def test_rows_are_there_as_soon_as_they_are_written(tmp_path: Path) -> None:
    path, found = tmp_path / "new" / "out.jsonl", items("a.wav", "b.wav")
    sink = outputs.open_sink(str(path), "jsonl", found)
    for count, item in enumerate(found, start=1):
        sink.write(item, result(item))
        assert [row["audio_filepath"] for row in rows(path)] == ["a.wav", "b.wav"][:count]
    sink.close()
    assert rows(path)[0]["text"] == "text of a.wav"


def test_a_second_run_does_what_is_missing(tmp_path: Path) -> None:
    path, found = tmp_path / "out.jsonl", items("a.wav", "b.wav", "c.wav")
    assert run(path, "jsonl", found, only=found[::2]) == ["a.wav", "c.wav"]
    assert run(path, "jsonl", found) == ["b.wav"]
    assert run(path, "jsonl", found) == []
    assert [row["audio_filepath"] for row in rows(path)] == ["a.wav", "c.wav", "b.wav"]
    assert run(path, "jsonl", found[:1], overwrite=True) == ["a.wav"]
    assert [row["audio_filepath"] for row in rows(path)] == ["a.wav"]


def test_overwriting_begins_with_the_first_result(tmp_path: Path) -> None:
    """A run that fails before it, because its model is not there, loses nothing."""
    path, found = tmp_path / "out.jsonl", items("a.wav")
    run(path, "jsonl", found)
    before = path.read_bytes()
    sink = outputs.open_sink(str(path), "jsonl", found, overwrite=True)
    assert not sink.is_done(found[0])
    sink.close(whole=False)
    assert path.read_bytes() == before


def test_a_run_killed_at_any_byte_resumes_to_the_same_rows(tmp_path: Path) -> None:
    path, found = tmp_path / "out.jsonl", items("a.wav", "ümläut.wav", "c.wav")
    run(path, "jsonl", found)
    whole = path.read_bytes()
    for end in range(len(whole) + 1):
        path.write_bytes(whole[:end])
        again = run(path, "jsonl", found)
        assert path.read_bytes() == whole
        assert again == [item.name for item in found[whole[:end].count(b"\n") :]]


def test_a_file_name_that_is_not_unicode_is_done_once(tmp_path: Path) -> None:
    path, found = tmp_path / "out.jsonl", items(os.fsdecode(b"caf\xe9.wav"), "b.wav")
    assert len(run(path, "jsonl", found)) == 2
    assert run(path, "jsonl", found) == []
    assert len(run(tmp_path / "folder", "json", found)) == 2
    assert run(tmp_path / "folder", "json", found) == []


@pytest.mark.parametrize(
    "content",
    [
        "my notes\n",
        "my notes",
        '{"model": "a", "lr": 1}\n',
        '{"model": "a", "lr": 1}',
        '[{"audio_filepath": "a.wav"}]\n',
        '{"audio_filepath": "z.wav", "text": "z"}\nmy notes',
        '{"audio_filepath": ["z.wav"]}\n',
        '{"audio_filepath": "z.wav", "offset": "soon"}\n',
        "\n\n",
        "\x00\x01",
    ],
)
def test_a_file_of_something_else_is_left_as_it_is(content: str, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text(content)
    with pytest.raises(ConfigError, match=rf"{path}:[12] is not a result row, .*name another --output"):
        outputs.open_sink(str(path), "jsonl", items("a.wav"))
    assert path.read_text() == content


def test_pieces_of_one_file_are_different_rows(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    pieces = [Item("a.wav", "a.wav", offset, 1.0, {"offset": offset}) for offset in (0.0, 1.0, 12345.25, 12345.5)]
    assert len(run(path, "jsonl", pieces, only=pieces[1:])) == 3
    assert [row["offset"] for row in rows(path)] == [1.0, 12345.25, 12345.5]
    assert run(path, "jsonl", items("a.wav")) == ["a.wav"]  # the whole is neither
    assert run(path, "jsonl", items("a.wav")) == []
    sink = outputs.open_sink(str(path), "jsonl", pieces)
    assert [sink.is_done(piece) for piece in pieces] == [False, True, True, True]
    sink.close()


# Folders -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    for name in ("2024/one.wav", "2024/two.flac", "2025/one.wav", "2025/deep/er/three.mp3"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_a_folder_mirrors_the_tree(recordings: Path, tmp_path: Path) -> None:
    run(tmp_path / "out", "txt", expand(recordings))
    assert files(tmp_path / "out") == ["2024/one.txt", "2024/two.txt", "2025/deep/er/three.txt", "2025/one.txt"]
    assert (tmp_path / "out/2024/two.txt").read_text() == "0.00 0.50 text\n"


def test_the_mirror_stays_when_recordings_come_and_go(recordings: Path, tmp_path: Path) -> None:
    (new := recordings / "2025/one.wav").rename(tmp_path / "later.wav")
    (recordings / "2025/deep/er/three.mp3").unlink()
    assert len(run(tmp_path / "out", "txt", expand(recordings))) == 2
    (tmp_path / "later.wav").rename(new)
    assert run(tmp_path / "out", "txt", expand(recordings)) == [str(new)]
    assert files(tmp_path / "out") == ["2024/one.txt", "2024/two.txt", "2025/one.txt"]


def test_shards_of_a_folder_name_their_files_as_the_whole_would(recordings: Path, tmp_path: Path) -> None:
    found = [item for path in ("2025", "2024") for item in expand(recordings / path)]
    run(tmp_path / "whole", "json", found)
    for k in (1, 2, 3):
        assert run(tmp_path / "parts", "json", found, only=found[k - 1 :: 3], shard=(k, 3)) == [i.name for i in found[k - 1 :: 3]]
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    assert len(files(tmp_path / "whole")) == 4


def test_what_a_folder_holds_is_done_unless_it_is_to_be_overwritten(recordings: Path, tmp_path: Path) -> None:
    found = expand(recordings)
    run(tmp_path / "out", "json", found)
    (tmp_path / "out/2025/one.json").unlink()
    assert run(tmp_path / "out", "json", found) == [str(recordings / "2025/one.wav")]
    assert run(tmp_path / "out", "json", found) == []
    assert len(run(tmp_path / "out", "json", found, overwrite=True)) == 4
    assert len(run(tmp_path / "out", "srt", found)) == 4  # another format is other files


CLASHES = {
    "suffixes": (items("a.wav", "a.flac", "b.wav"), ["a.flac.txt", "a.wav.txt", "b.txt"]),
    "a stem that is another's name": (items("a.wav.flac", "a.wav", "a.mp3"), None),
    "the same twice": (items("a.wav", "a.wav"), None),
    "pieces": ([*items("a.wav", offset=0.0), *items("a.wav", offset=2.5), *items("a.wav", offset=12345.675)], None),
    "pieces close together": ([*items("a.wav", offset=12345.67), *items("a.wav", offset=12345.68)], None),
    "pieces from one place": ([*items("a.wav", offset=1.0, duration=1.0), *items("a.wav", offset=1.0, duration=2.0)], None),
    "arrays": (items("input 0", "input 1"), ["input 0.txt", "input 1.txt"]),
    "a file and a folder": (items("a.wav", "a/b.wav"), ["a.txt", "a/b.txt"]),
}


@pytest.mark.parametrize("clash", CLASHES)
def test_every_recording_has_a_file_of_its_own(clash: str, tmp_path: Path) -> None:
    found, expected = CLASHES[clash]
    run(tmp_path / "out", "txt", found)
    assert len(files(tmp_path / "out")) == len(found)
    assert expected is None or files(tmp_path / "out") == expected
    assert run(tmp_path / "out", "txt", found) == []


@pytest.mark.parametrize(
    "names", [("d/x.wav", "../y.wav"), ("../../x.wav", "y.wav"), ("/etc/x.wav", "y.wav"), ("a/../../../x.wav", "b/y.wav")]
)
def test_no_name_leads_out_of_the_folder(names: tuple[str, ...], tmp_path: Path) -> None:
    out = tmp_path / "deep" / "er" / "out"
    run(out, "txt", items(*names))
    assert len(files(out)) == len(files(tmp_path)) == 2


def test_a_folder_is_told_by_its_name_or_by_being_there(tmp_path: Path) -> None:
    (tmp_path / "is.there").mkdir()
    for output in ("plain", "with.dot/", "is.there"):
        run(f"{tmp_path}/{output}", "txt", items("a.wav"))
    assert files(tmp_path) == ["is.there/a.txt", "plain/a.txt", "with.dot/a.txt"]


def test_a_file_of_a_folder_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = items("a.wav")
    sink = outputs.open_sink(str(tmp_path), "txt", found)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        sink.write(found[0], result(found[0]))
    assert files(tmp_path) == []


@pytest.mark.timeout(150)
def test_names_of_many_recordings_are_found_at_once(tmp_path: Path) -> None:
    """Comparing each with each would take minutes here, and for a million days."""
    found = items(*(f"{n % 1000}/{n}.wav" for n in range(100_000)))
    sink = outputs.open_sink(str(tmp_path), "txt", found)
    assert not any(sink.is_done(item) for item in found[:10])
