"""`sonant data stats`: counts against plain Python, pictures and pages that show what a manifest may hold."""

from __future__ import annotations

import json
import random
import re
import statistics as plain
import xml.etree.ElementTree
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from sonant.cli.main import app
from sonant_training.data.tools import figures
from sonant_training.data.tools.page import page
from sonant_training.data.tools.statistics import PERCENTILES, collect

WORDS = ["a", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "7", "times", "und", "süß"]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    drawn = random.Random(1)
    return [
        {
            "audio_filepath": f"{n}.wav",
            "text": " ".join(drawn.choices(WORDS, k=drawn.randint(1, 12))),
            "duration": round(drawn.uniform(0.4, 8.0), 2),
            "speaker": drawn.choice("abcd"),
            "lang": drawn.choice(["en", "de"]),
        }
        for n in range(200)
    ]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    return lambda *args: CliRunner().invoke(app, ["data", "stats", *args], prog_name="sonant")


def test_what_is_counted_is_there(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    both = [write(tmp_path / "a.jsonl", rows[:150]), write(tmp_path / "b.jsonl", rows[150:])]
    found = collect(both).to_dict()
    texts = [row["text"] for row in rows]
    assert found["rows"] == 200
    assert found["seconds"] == pytest.approx(sum(row["duration"] for row in rows))
    assert found["words"] == sum(len(text.split()) for text in texts)
    assert found["different_words"] == len({word for text in texts for word in text.split()})
    assert found["characters"] == Counter("".join(texts))
    assert found["most_frequent_words"] == Counter(" ".join(texts).split())
    for key, groups in (("speaker", found["speakers"]), ("lang", found["languages"])):
        for name, group in groups.items():
            own = [row["duration"] for row in rows if row[key] == name]
            assert group == {"rows": len(own), "seconds": pytest.approx(sum(own))}
    pace = sorted(len(row["text"]) / row["duration"] for row in rows)
    spread = found["spread"]["characters a second"]
    assert (spread["least"], spread["most"]) == (pytest.approx(pace[0], abs=1e-4), pytest.approx(pace[-1], abs=1e-4))
    assert spread["median"] == pytest.approx(plain.median(pace), abs=1e-4)
    assert spread["mean"] == pytest.approx(plain.mean(pace), abs=1e-4)
    percentiles = plain.quantiles(pace, n=100, method="inclusive")
    for name, percent in PERCENTILES.items():
        if 0 < percent < 100:
            assert spread[name] == pytest.approx(percentiles[round(percent) - 1], abs=1e-4)


def test_a_missing_duration_is_that_of_the_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(24000), 16000)
    manifest = write(
        tmp_path / "m.jsonl",
        [
            {"audio_filepath": "a.wav", "text": "x"},
            {"audio_filepath": "a.wav", "text": "x", "offset": 0.5},
            {"audio_filepath": "nowhere.wav", "text": "x"},
            {"audio_filepath": "nowhere.wav", "text": "x", "duration": 2.0},
            {"text": "x", "duration": 2.0},
        ],
    )
    found = collect([manifest])
    assert [entry.seconds for entry in found.entries] == [2.0, 1.5, 1.0]
    assert found.unread == 2


def test_the_command_prints_and_writes(rows: list[dict[str, Any]], tmp_path: Path, run: Callable[..., Result]) -> None:
    write(tmp_path / "train.jsonl", rows)
    done = run("train.jsonl", "--top", "2", *(f"-omade/stats{suffix}" for suffix in (".html", ".png", ".svg", ".pdf", ".json")))
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("rows        200\n")
    assert "and 2 more; --top 4 shows all" in done.stdout
    assert json.loads((tmp_path / "made/stats.json").read_text("utf-8")) == json.loads(run("train.jsonl", "--json").stdout)
    for suffix, magic in {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml", ".html": b"<!DOCTYPE html>"}.items():
        assert (tmp_path / f"made/stats{suffix}").read_bytes().startswith(magic)


@pytest.mark.parametrize("name", ["stats", "stats.jpg", "stats.csv"])
def test_another_suffix_is_refused_before_the_work(name: str, run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text("not even a manifest")
    done = run("m.jsonl", "-o", name)
    assert done.exit_code == 1
    assert f"{name} ends in none of .html, .png, .svg, .pdf, .json" in done.stderr


HOSTILE = "<script>alert(1)</script> \"'&$a_b$ \x1b[31m\u200b 中文"


def test_pictures_are_drawn_of_whatever_there_is(tmp_path: Path) -> None:
    """Formulas, characters without a picture in the font, one row, no text, equal names when cut: without a warning."""
    cases: dict[str, list[dict[str, Any]]] = {
        "one": [{"audio_filepath": "a.wav", "duration": 1.0}],
        "silent": [{"audio_filepath": "a.wav", "duration": 0.0, "text": ""}] * 3,
        "hostile": [
            {"audio_filepath": "a.wav", "duration": 1.0, "text": HOSTILE, "speaker": "${\\frac$" + HOSTILE + str(n)}
            for n in range(30)
        ],
        "far out": [{"audio_filepath": "a.wav", "duration": 1.0 + 10000 * (n == 0), "text": "x"} for n in range(30)],
    }
    for name, rows in cases.items():
        found = collect([write(tmp_path / "m.jsonl", rows)])
        pictures = figures.svgs(found)
        assert ("Characters" in pictures) == (name in ("hostile", "far out"))
        assert ("Audio by speaker" in pictures) == (name == "hostile")
        for svg in pictures.values():
            assert xml.etree.ElementTree.fromstring(svg).tag.endswith("svg")


def test_a_picture_is_the_same_again(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    found = collect([write(tmp_path / "m.jsonl", rows[:9])])
    for name in ("a.svg", "b.svg"):
        figures.save(found, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_holds_text_as_text_and_fetches_nothing(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a b#?.wav", np.zeros(160), 16000)
    rows = [
        {"audio_filepath": "a b#?.wav", "duration": 1.0, "text": HOSTILE, "speaker": HOSTILE, "lang": HOSTILE},
        {"audio_filepath": "a b#?.wav", "duration": 1.5, "offset": 0.25, "text": "x"},
        {"audio_filepath": "<img src=x>.wav", "duration": 1.0, "text": "x"},
    ]
    manifest = write(tmp_path / "<b>.jsonl", rows)
    seen = Tags(page(collect([manifest]), tmp_path / "elsewhere"))
    assert seen.tags["script"] == 0
    assert seen.tags["title"] == seen.tags["h1"] == 1
    assert HOSTILE in seen.text
    sources = [value for name, value in seen.attributes if name == "src"]
    players = {value for value in sources if not value.startswith("data:image/svg+xml;base64,")}
    assert players == {"../a%20b%23%3F.wav", "../a%20b%23%3F.wav#t=0.250,1.750"}
    assert not [value for name, value in seen.attributes if name in ("href", "style") or name.startswith("on")]
    (policy,) = (value for name, value in seen.attributes if name == "content" and value.startswith("default-src"))
    assert policy.startswith("default-src 'none'; img-src data:; media-src 'self' file:; style-src 'sha256-")


def test_the_page_lists_the_rows_to_hear_first(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    rows[77] |= {"text": "words " * 40, "duration": 0.5}
    rows[78] |= {"text": "x", "duration": 99.0}
    shown = page(collect([write(tmp_path / "m.jsonl", rows)]), tmp_path)
    lists = dict(zip(("Fastest", "Slowest", "Longest", "Shortest"), shown.split("<h2>Fastest")[1].split("<h2>"), strict=False))
    first = {title: re.findall(r'class="where">(\S+) ', text)[0] for title, text in lists.items()}
    assert (first["Fastest"], first["Slowest"], first["Longest"]) == ("77.wav", "78.wav", "78.wav")
