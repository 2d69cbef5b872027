"""The documentation as a site: built without a warning, links lead somewhere, nothing comes from elsewhere, search has all."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from doc_blocks import DOCS, REPO, SITE

LOADS = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "audio": "src", "video": "src"}


class Html(HTMLParser):
    """What a built page links to, loads and can be linked at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.classes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids.update(values[key] for key in ("id", "name") if key in values)
        self.classes.update(values.get("class", "").split())
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if LOADS.get(tag) in values:
            self.loads.append(values[LOADS[tag]])


def nav_pages(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    else:
        for value in entry.values() if isinstance(entry, dict) else entry:
            yield from nav_pages(value)


NAV = list(nav_pages(yaml.safe_load((REPO / "mkdocs.yml").read_text("utf-8"))["nav"]))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=REPO,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Html]:
    return {path: Html(path.read_text("utf-8")) for path in site.rglob("*.html")}


def test_every_page_is_in_the_navigation_and_linked_from_the_first() -> None:
    assert sorted(NAV) == sorted(page.relative_to(DOCS).as_posix() for page in SITE)
    linked = re.findall(r"\]\(([\w/]+\.md)\)", (DOCS / "index.md").read_text("utf-8"))
    assert linked == [page for page in NAV if page != "index.md"]


def test_every_link_and_anchor_leads_somewhere(site: Path, pages: dict[Path, Html]) -> None:
    assert {site / page.replace(".md", ".html") for page in NAV} <= pages.keys()
    for page, html in pages.items():
        for address in html.links + html.loads:
            parts = urlsplit(address)
            if parts.scheme:
                continue
            top = site if parts.path.startswith("/") else page.parent
            target = (top / unquote(parts.path).lstrip("/")).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{page.relative_to(site)}: {address}"
            if parts.fragment:
                assert unquote(parts.fragment) in pages[target].ids, f"{page.relative_to(site)}: {address}"


def test_no_page_loads_anything_from_another_host(site: Path, pages: dict[Path, Html]) -> None:
    for page, html in pages.items():
        assert html.loads, f"{page} was not understood"
        assert [a for a in html.loads if urlsplit(a).scheme or a.startswith("//")] == [], page.relative_to(site)
        assert "mermaid" not in html.classes, f"{page.relative_to(site)}: the theme fetches a script to draw this"
        assert not re.search(r"fonts\.(googleapis|gstatic)", page.read_text("utf-8"))
    for style in site.rglob("*.css"):
        assert not re.search(r"@import|url\(\s*[\"']?(https?:)?//", style.read_text("utf-8")), style.name


def test_the_search_knows_every_page_and_its_words(site: Path) -> None:
    entries = json.loads((site / "search" / "search_index.json").read_text("utf-8"))["docs"]
    assert {entry["location"].partition("#")[0] for entry in entries} == {page.replace(".md", ".html") for page in NAV}
    text = {entry["location"]: entry["title"] + entry["text"] for entry in entries}
    for page, word in {
        "reference/components.html#encoder": "fastconformer",
        "reference/hooks.html#sonant_components": "ComponentSpec",
        "reference/protocols.html#streamingencoder": "init_state",
    }.items():
        assert word in text[page]
