"""The page of an evaluation: what it shows, that hostile text stays text, and that it fetches nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from attrs import define, field

from sonant.inputs import Item
from sonant.results import Failure
from sonant_asr.evaluation import Pair, Scores, charts, evaluate, players, report
from sonant_asr.evaluation.errors import Errors
from sonant_asr.evaluation.manifest import Row

CASES = Path(__file__).resolve().parents[3] / "tests" / "nemo-cases"
VOID = {"meta", "input", "rect", "line", "br", "img"}
HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</td></tr></table><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)" x="',
    "' onmouseover='alert(1)",
    "</style></title><svg onload=alert(1)>",
    "<!-- &lt;b&gt; &amp; -->",
    "\u202ereversed \x00 \x1b[31m \ud800",
]


@define
class Element:
    """A node of a parsed page; `text` is that of it and of all below."""

    tag: str
    attrs: dict[str, str]
    children: list[Element] = field(factory=list)
    text: str = ""

    def all(self, tag: str, cls: str = "") -> list[Element]:
        """Those below with this tag, and this class."""
        return [e for e in self.walk() if e.tag == tag and (not cls or cls in e.attrs.get("class", "").split())]

    def walk(self) -> Iterator[Element]:
        for child in self.children:
            yield child
            yield from child.walk()


class Tree(HTMLParser):
    """Parses a page in which every element is closed where it should be."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.root = Element("", {})
        self.open = [self.root]
        self.feed(page)
        self.close()
        assert self.open == [self.root], f"not closed: {[e.tag for e in self.open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop().tag == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data


def parsed(page: str) -> Element:
    return Tree(page).root


def rows(page: Element) -> list[Element]:
    (table,) = (t for t in page.all("table") if t.attrs.get("id") == "utterances")
    return table.all("tbody")[0].all("tr")


def small() -> Scores:
    return evaluate(
        [
            Pair(
                reference="front center rear left side",
                hypothesis="front rear left side now",
                name="a.wav",
                duration=3.0,
                speaker="anna",
            ),
            Pair(reference="side right", hypothesis="side right", name="b.wav", duration=1.5, speaker="bo"),
            Pair(reference="left", hypothesis="right", name="a.wav", offset=2.5, duration=0.5, speaker="bo"),
        ]
    )


def test_words_are_aligned_and_marked_in_letters_too() -> None:
    last, first, right = rows(parsed(report.page(small(), title="t")))
    assert [row.all("td")[4].text for row in (last, first, right)] == [
        "a.wav from 2.50 s, speaker bo",
        "a.wav speaker anna",
        "b.wav speaker bo",
    ]
    steps = [
        (step.attrs["class"].removeprefix("step").strip(), *(child.text for child in step.children))
        for step in first.all("span", "step")
    ]
    assert steps == [
        ("names", "said", "heard"),
        ("", "front", "front"),
        ("del", "center", "\xa0", "D"),
        ("", "rear", "rear"),
        ("", "left", "left"),
        ("", "side", "side"),
        ("ins", "\xa0", "now", "I"),
    ]
    assert [e.attrs["title"] for e in first.all("abbr")] == ["deletion", "insertion"]
    assert last.all("span", "sub")[0].text == "leftrightS"
    assert not right.all("abbr")
    assert [row.attrs["data-errors"] for row in (last, first, right)] == ["1", "2", "0"]


def test_characters_are_aligned_where_asked() -> None:
    scores = evaluate([("a bc", "abx"), ("今天天气", "今天天器")], normalize="none")
    spaced, ideographs = rows(parsed(report.page(scores, title="t", unit="char")))
    marked = [[c.text for c in e.children] for e in spaced.all("span", "step") if e.all("abbr")]
    assert marked == [["␣", "\xa0", "D"], ["c", "x", "S"]]
    assert [e.text for e in ideographs.all("span", "sub")] == ["气器S"]


def test_the_numbers_of_the_page() -> None:
    scores = small()
    page = parsed(
        report.page(
            scores, title="Evaluation of test.jsonl", facts={"model": "m.nemo"}, failures=[Failure("c.wav", ValueError("bad"))]
        )
    )
    assert page.all("h1")[0].text == page.all("title")[0].text == "Evaluation of test.jsonl"
    assert page.all("p", "facts")[0].text == "normalization basic · model m.nemo"
    tiles = [tile.text for tile in page.all("div", "tile")]
    assert tiles == [
        "37.50 %word error rate",
        f"{100 * (scores.character_error_rate or 0):.2f} %character error rate",
        "3utterances",
        "5.0 sof audio",
        "1failed, not counted",
    ]
    words = [cell.text for cell in page.all("tbody")[0].all("tr")[0].children]
    assert words == ["words", "37.50 %", "3", "1", "1", "1", "6", "8", "8"]
    assert [e.text for e in page.all("li")] == ["c.wav: bad"]


def test_hostile_text_stays_text() -> None:
    """Wherever it stands, in titles and addresses too, the page has the same elements as with tame text."""

    def page(text: str) -> Element:
        pair = Pair(reference=text, hypothesis=f"x {text}", name=text, speaker=text, duration=1.0)
        scores = evaluate([pair], normalize="none")
        failures = [Failure(text, ValueError(text))]
        written = report.page(scores, title=text, facts={"model": text}, audio={(text, None): text}, failures=failures)
        written.encode("utf-8")
        return parsed(written)

    def shape(element: Element) -> list[tuple[str, list[str]]]:
        return [(e.tag, sorted(e.attrs)) for e in element.walk() if e.attrs.get("class") != "step"]

    for text in HOSTILE:
        found, tame = page(text), page(" ".join("x" for _ in text.split()))
        structure = [(tag, keys) for tag, keys in shape(found) if tag not in ("span", "abbr")]
        assert structure == [(tag, keys) for tag, keys in shape(tame) if tag not in ("span", "abbr")]
        shown = text.encode("utf-8", "replace").decode("utf-8")
        assert found.all("h1")[0].text.replace("\ufffd", "\x00") == shown
        assert len(found.all("script")) == len(found.all("audio")) == 1
        assert not [key for e in found.walk() for key in e.attrs if key.startswith("on")]
        assert "alert" not in found.all("script")[0].text and "alert" not in found.all("style")[0].text


def test_the_page_fetches_nothing_and_runs_its_own_script_only() -> None:
    page = parsed(report.page(small(), title="t"))
    assert not [e for e in page.walk() if e.tag in ("link", "img", "iframe", "object", "embed", "base")]
    assert not [e for e in page.walk() if "src" in e.attrs or "href" in e.attrs or "style" in e.attrs]
    style, script = page.all("style")[0].text, page.all("script")[0].text
    assert not re.search(r"url\(|@import|https?:|fetch|XMLHttp|innerHTML|eval", style + script)
    (policy,) = (e.attrs["content"] for e in page.all("meta") if e.attrs.get("http-equiv") == "Content-Security-Policy")
    stated = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    digests = {
        name: f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for name, text in (("style-src", style), ("script-src", script))
    }
    assert stated == {"default-src": "'none'", "media-src": "'self' file: data:", **digests}


def test_both_colour_schemes_have_every_colour() -> None:
    style = parsed(report.page(small(), title="t")).all("style")[0].text
    light, dark = (set(re.findall(r"(--[\w-]+): ", part)) for part in re.findall(r":root \{(.*?)\}", style, re.DOTALL))
    assert light == dark and set(re.findall(r"var\((--[\w-]+)\)", style)) == light


def test_columns_sort_by_number() -> None:
    scores = evaluate([("", "x"), ("", ""), ("a", "b c"), ("a", "a")])
    keys = [[cell.attrs["data-key"] for cell in row.all("td")[:4]] for row in rows(parsed(report.page(scores, title="t")))]
    assert keys == [["1e9", "1", "1e9", "-1"], ["2", "2", "3", "-1"], ["-1", "0", "-1", "-1"], ["0", "0", "0", "-1"]]


def test_very_many_utterances_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MOST_ROWS", 2)
    page = parsed(report.page(small(), title="t"))
    assert len(rows(page)) == 2
    assert "The worst 2 of 3" in page.text


def test_a_page_of_nothing() -> None:
    page = parsed(report.page(evaluate([]), title="t"))
    assert not rows(page) and not page.all("svg")
    assert [tile.text for tile in page.all("div", "tile")][:2] == ["undefinedword error rate", "undefinedcharacter error rate"]


# Plots


def test_groups_by_duration_and_speaker() -> None:
    scores = small()
    assert charts.by_duration(scores.utterances, "word") == [
        charts.Bar("0 to 1 s", 1, Errors(substitutions=1)),
        charts.Bar("1 to 2 s", 1, Errors(hits=2)),
        charts.Bar("2 to 5 s", 1, Errors(hits=4, deletions=1, insertions=1)),
    ]
    assert [(bar.label, bar.utterances, bar.errors.rate) for bar in charts.by_speaker(scores.utterances, "word")] == [
        ("anna", 1, 2 / 5),
        ("bo", 2, 1 / 3),
    ]
    assert charts.by_duration(evaluate([("a", "a")]).utterances, "word") == []
    assert (
        charts.by_duration(evaluate([Pair(reference="a", hypothesis="a", duration=9e9)]).utterances, "word")[0].label
        == "from 3600 s"
    )


@pytest.mark.parametrize("rates", [[(1, 1)], [(3, 10), (1, 8), (0, 5)], [(7, 2)], [(0, 3)], [(1, 0), (1, 4)]])
def test_bars_are_as_long_as_the_rates(rates: list[tuple[int, int]]) -> None:
    bars = [
        charts.Bar(
            str(n), 1, Errors(hits=max(0, total - wrong), substitutions=min(wrong, total), insertions=max(0, wrong - total))
        )
        for n, (wrong, total) in enumerate(rates)
    ]
    page = parsed(charts.svg("rates", bars, sum((b.errors for b in bars), Errors()), "word"))
    ticks = {float(e.text.rstrip("\xa0%")) / 100: float(e.attrs["x"]) for e in page.all("text", "tick")}
    zero, top = ticks[0.0], max(ticks)
    scale = (ticks[top] - zero) / top
    for bar, drawn in zip(bars, page.all("rect", "bar"), strict=True):
        rate = bar.errors.rate or 0.0
        assert float(drawn.attrs["x"]) == zero
        assert float(drawn.attrs["width"]) == pytest.approx(rate * scale, abs=0.2)
        assert rate <= top
    assert [e.text.split("%")[0] for e in page.all("text", "value")] == [
        ("undefined1 utterance" if b.errors.rate is None else f"{100 * b.errors.rate:.2f} ") for b in bars
    ]


# Audio


def row(item: Item) -> Row:
    return Row(item, "")


def test_links_lead_to_the_files_from_where_the_page_lies(tmp_path: Path) -> None:
    folder = tmp_path / "out" / "report"
    folder.mkdir(parents=True)
    for name in ("a.wav", "über & 100%.wav", "x:y#?.wav"):
        (tmp_path / name).touch()
    items = [
        Item(tmp_path / "a.wav", "a.wav"),
        Item(tmp_path / "über & 100%.wav", "u"),
        Item(tmp_path / "x:y#?.wav", "x"),
        Item(tmp_path / "a.wav", "a.wav", 1.5, 0.25, {"offset": 1.5}),
        Item(tmp_path / "a.wav", "b", 1.5),
        Item(tmp_path / "gone.wav", "gone.wav"),
    ]
    assert players.linked(map(row, items), folder) == {
        ("a.wav", None): "../../a.wav",
        ("u", None): "../../%C3%BCber%20%26%20100%25.wav",
        ("x", None): "../../x%3Ay%23%3F.wav",
        ("a.wav", 1.5): "../../a.wav#t=1.500,1.750",
        ("b", 1.5): "../../a.wav#t=1.500",
    }


def test_embedded_audio_is_that_of_the_piece() -> None:
    from io import BytesIO

    import numpy as np
    import soundfile

    whole, piece = Item(CASES / "a.wav", "a"), Item(CASES / "a.wav", "a", 0.5, 1.0, {"offset": 0.5})
    found = players.embedded(map(row, [whole, piece, Item(CASES / "none.wav", "gone"), whole]))
    assert set(found) == {("a", None), ("a", 0.5)}
    expected, rate = soundfile.read(CASES / "a.wav", dtype="float32")
    for key, samples in {("a", None): expected, ("a", 0.5): expected[rate // 2 : rate // 2 + rate]}.items():
        kind, _, data = found[key].partition(",")
        assert kind == "data:audio/flac;base64"
        heard, heard_rate = soundfile.read(BytesIO(base64.b64decode(data)), dtype="float32")
        assert heard_rate == rate == 16000
        np.testing.assert_allclose(heard, samples, atol=2**-15)


def test_embedding_ends_at_the_limit() -> None:
    items = [Item(CASES / name, name) for name in ("b.wav", "a.wav")]
    size = len(players.embedded([row(items[0])])["b.wav", None])
    assert list(players.embedded(map(row, items), most=size)) == [("b.wav", None)]
    assert players.embedded(map(row, items), most=size - 1) == {}
