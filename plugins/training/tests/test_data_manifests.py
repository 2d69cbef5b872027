"""Manifests: which rows are examples, what is said of the others, and where relative names lead."""

from __future__ import annotations

import gzip
import json
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml

from sonant.config import fill
from sonant.errors import ConfigError
from sonant_training.data import filenames
from sonant_training.data.catalog import Catalog, open_catalog
from sonant_training.data.config import (
    DataConfig,
    NoiseConfig,
    PerturbConfig,
    RirConfig,
    ShiftConfig,
    SourceConfig,
    WhiteNoiseConfig,
)
from sonant_training.data.faults import Fault, FaultLog
from sonant_training.data.lines import Lines
from sonant_training.errors import DataError

RATE = 8000


def catalog(folder: Path, **values: Any) -> Catalog:
    return open_catalog(fill(DataConfig, values, "train_ds"), folder)


def manifest(folder: Path, *rows: Mapping[str, Any] | str, name: str = "m.jsonl") -> str:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / name).write_text("\n".join(lines), "utf-8")
    return name


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    rows = [{"text": "a line\u2028within"}, {"n": 1}, {"n": 2}]
    content = b"\xef\xbb\xbf" + b"\n".join(
        [json.dumps(rows[0], ensure_ascii=False).encode(), b"", *(json.dumps(r).encode() for r in rows[1:])]
    )
    (tmp_path / "a.jsonl").write_bytes(content)
    (tmp_path / "b.jsonl").write_bytes(content + b"\n")
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(content))
    for name in ("a.jsonl", "b.jsonl", "c.jsonl.gz"):
        lines = Lines(tmp_path / name)
        assert [lines.parse(index) for index in range(len(lines))] == [rows[0], None, rows[1], rows[2]]
        assert lines.where(3) == f"{tmp_path / name}:4"


def test_an_empty_or_missing_manifest_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataError, match=r"no example is left of .*empty\.jsonl: there are no lines"):
        catalog(tmp_path, manifest_filepath="empty.jsonl")
    with pytest.raises(DataError, match=r"nothing\.jsonl: the manifest cannot be read: No such file"):
        catalog(tmp_path, manifest_filepath="nothing.jsonl")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}\n' * 100)[:30])
    with pytest.raises(DataError, match=r"cut\.jsonl\.gz: the manifest cannot be read"):
        catalog(tmp_path, manifest_filepath="cut.jsonl.gz")


def test_rows_that_are_no_examples_are_listed_with_their_line(tmp_path: Path) -> None:
    good = {"audio_filepath": "a.wav", "text": "a", "duration": 1.0}
    name = manifest(
        tmp_path,
        good,
        "{broken",
        "[1]",
        {**good, "audio_filepath": None},
        {**good, "duration": -1},
        {**good, "duration": "long"},
        {**good, "text": None},
        {**good, "duration": None},
        "",
        good,
    )
    found = catalog(tmp_path, manifest_filepath=name)
    assert len(found) == 2
    assert [found.where(index) for index in (0, 1)] == [f"{tmp_path / name}:1", f"{tmp_path / name}:10"]
    assert [fault.where.rsplit(":")[-1] for fault in found.faults] == ["2", "3", "4", "5", "6", "7", "8"]
    reasons = "\n".join(fault.reason for fault in found.faults)
    for expected in ("expected an object", "no audio_filepath", "duration -1", "duration 'long'", "no 'text'", "no such file"):
        assert expected in reasons


def test_a_bad_row_can_end_the_run(tmp_path: Path) -> None:
    name = manifest(tmp_path, {"audio_filepath": "a.wav", "duration": 1.0})
    with pytest.raises(DataError, match=r"m\.jsonl:1: there is no 'text'.*on_bad: skip"):
        catalog(tmp_path, manifest_filepath=name, on_bad="raise")


def test_a_row_may_teach_something_else_than_a_text(tmp_path: Path) -> None:
    row = {"audio_filepath": "a.wav", "duration": 1.0}
    name = manifest(tmp_path, {**row, "label": "music"}, {**row, "text": 3}, {**row, "text": "yes"})
    found = open_catalog(fill(DataConfig, {"manifest_filepath": name}, "train_ds"), tmp_path, needs_text=False)
    assert [(one.get("label"), one.get("text")) for one in map(found.row, range(len(found)))] == [("music", None), (None, "yes")]
    assert [fault.reason for fault in found.faults] == ["text 3 is no text"]


def test_limits_leave_out_and_count(tmp_path: Path) -> None:
    name = manifest(tmp_path, *({"audio_filepath": "a.wav", "text": "x" * n, "duration": float(n)} for n in range(1, 11)))
    found = catalog(tmp_path, manifest_filepath=name, min_duration=2, max_duration=8, max_tokens=6)
    assert found.seconds.tolist() == [2, 3, 4, 5, 6]
    assert found.tokens.tolist() == [2, 3, 4, 5, 6]
    assert found.left_out == {"shorter than min_duration": 1, "longer than max_duration": 2, "more tokens than max_tokens": 2}
    with pytest.raises(DataError, match="no example is left of .*: 10 shorter than min_duration"):
        catalog(tmp_path, manifest_filepath=name, min_duration=20)


def test_a_row_says_where_its_audio_is_and_which_piece(corpus: Callable[..., Path], tmp_path: Path) -> None:
    corpus([2.0])
    (tmp_path / "sub").mkdir()
    base = {"audio_filepath": "../train_0.wav", "text": "x"}
    name = manifest(tmp_path / "sub", base, base | {"offset": 0.5, "duration": 0.25}, base | {"duration": 1.9})
    found = catalog(tmp_path, manifest_filepath=f"sub/{name}")
    assert found.seconds.tolist() == [2.0, 0.25, 1.9]
    whole, piece, rounded = (found.read(index, found.row(index), RATE, None) for index in range(3))
    assert len(whole) == 2 * RATE
    assert (piece == whole[4000:6000]).all()
    assert (rounded == whole).all()  # without an offset, a duration describes the whole file


def test_several_manifests_with_a_language_and_a_weight_each(corpus: Callable[..., Path], tmp_path: Path) -> None:
    corpus([1.0] * 2, "en.jsonl")
    corpus([1.0] * 3, "de.jsonl", lang="de-CH", answer="antwort")
    sets = [{"manifest_filepath": "en.jsonl", "lang": "en", "weight": 2}, {"manifest_filepath": "de.jsonl", "lang": "de"}]
    found = catalog(tmp_path, input_cfg=sets)
    assert [found.row(index)["lang"] for index in range(5)] == ["en", "en", "de-CH", "de-CH", "de-CH"]
    assert found.weight.tolist() == [2, 2, 1, 1, 1]
    assert catalog(tmp_path, manifest_filepath="de.jsonl", text_field="answer").row(0)["text"] == "antwort"
    assert len(catalog(tmp_path, manifest_filepath="{en,de}.jsonl")) == 5


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.tar", ["a.tar"]),
        ("a_{0..2}.tar", ["a_0.tar", "a_1.tar", "a_2.tar"]),
        ("a_{08..11}.tar", ["a_08.tar", "a_09.tar", "a_10.tar", "a_11.tar"]),
        ("b_{x,y}_{1..2}", ["b_x_1", "b_x_2", "b_y_1", "b_y_2"]),
        ("audio__OP_0..1_CL_.tar", ["audio_0.tar", "audio_1.tar"]),
        (["p", "q{2..1}"], ["p", "q2", "q1"]),
    ],
)
def test_names_that_stand_for_several(pattern: Any, expected: list[str]) -> None:
    assert [path.name for path in filenames.expand(pattern, Path("/data"))] == expected
    assert all(path.parent == Path("/data") for path in filenames.expand(pattern, Path("/data")))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "name the examples by manifest_filepath"),
        ({"manifest_filepath": "a", "input_cfg": [{"manifest_filepath": "b"}]}, "name the examples by manifest_filepath"),
        ({"manifest_filepath": 3}, "manifest_filepath 3 is neither"),
        ({"manifest_filepath": "a", "cuts_path": "b"}, "here: cuts_path and manifest_filepath"),
        ({"input_cfg": [{"weight": 2.0}]}, r"train_ds.input_cfg\[0\]: a source is one of .*; here: none"),
        ({"manifest_filepath": "a", "batch_sise": 3}, "Did you mean 'batch_size'"),
        ({"manifest_filepath": "a", "batch_duration": 0}, "batch_duration 0.0 is not above 0"),
        ({"manifest_filepath": "a", "max_duration": 1, "min_duration": 2}, "max_duration 1.0 is below"),
        ({"manifest_filepath": "a", "perturb": {"speed": [0.1]}}, "speed .*from 0.25 to 4"),
        ({"manifest_filepath": "a", "perturb": {"volume_db": [6, -6]}}, r"not \[lowest, highest\]"),
        ({"manifest_filepath": "a", "perturb": {"noise": {}}}, "perturb.noise.manifest_filepath: a value is required"),
        ({"manifest_filepath": "a", "perturb": {"rir": {"manifest_filepath": "r", "prob": 2}}}, "prob 2.0 is not a probability"),
        ({"manifest_filepath": "a", "bucket_duration_bins": [3, 2]}, "must grow"),
        ({"manifest_filepath": "a", "bucket_duration_bins": [3, [4, 5]]}, "a list of seconds, or of pairs"),
        ({"manifest_filepath": "a", "bucket_duration_bins": [3], "bucket_batch_size": [3, 4]}, "a number for each"),
        (
            {"manifest_filepath": "a", "bucket_duration_bins": [3], "bucket_batch_size": [3], "batch_size": 4},
            "have no place beside it",
        ),
    ],
)
def test_a_config_that_cannot_be_meant_is_an_error(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fill(DataConfig, values, "train_ds")


def test_bad_examples_are_told_once_and_the_first_in_full(caplog: pytest.LogCaptureFixture) -> None:
    faults = [Fault(f"m.jsonl:{n}", f"{n}.wav", "there is no such file") for n in range(30)]
    told = FaultLog()
    with caplog.at_level(logging.WARNING):
        told.add(faults[:3])
        told.add(faults)
    assert len(told.found) == 30
    messages = [record.getMessage() for record in caplog.records]
    assert messages[0] == "left out: m.jsonl:0: 0.wav: there is no such file"
    assert len(messages) == 11 and "counted only" in messages[-1]


def test_the_documentation_names_every_field_and_shows_configs_that_are_right() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "data.md").read_text("utf-8")
    for part in (DataConfig, SourceConfig, PerturbConfig, NoiseConfig, RirConfig, WhiteNoiseConfig, ShiftConfig):
        for attribute in attrs.fields(part):
            assert f"`{attribute.name}" in page or f"{attribute.name}:" in page, attribute.name
    shown = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    filled = [fill(DataConfig, block["train_ds"], "train_ds") for block in shown if "train_ds" in block]
    assert len(filled) == 2
