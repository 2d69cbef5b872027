"""What manifests hold as a page: one file that fetches nothing and opens from disk.

Texts and names come from manifests, so all of them are escaped; a content security policy lets no script run.
"""

from __future__ import annotations

import base64
import hashlib
import html
import os
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Final
from urllib.parse import quote

from sonant_training.data.tools import figures
from sonant_training.data.tools.numbers import duration, figure
from sonant_training.data.tools.statistics import PERCENTILES, Entry, Statistics, Tally

_EXTREMES: Final = 10
_MOST_GROUPS: Final = 100
_MOST_CHARACTERS: Final = 400
_MOST_WORDS: Final = 60


def page(statistics: Statistics, folder: Path) -> str:
    """The page as HTML, for a file in `folder`: the players link to the recordings from there."""
    style = files("sonant_training.data.tools").joinpath("page.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; media-src 'self' file:; style-src 'sha256-{digest}'"
    title = ", ".join(Path(manifest).name for manifest in statistics.manifests)
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{_escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>",
        f"<h1>{_escape(title)}</h1>",
        _tiles(statistics),
        _pictures(statistics),
        "<h2>Spread</h2>",
        _spread(statistics),
        *_characters(statistics),
        *_words(statistics),
        *_extremes(statistics, folder),
        *_groups("Speakers", statistics.largest(statistics.speakers)),
        *_groups("Languages", statistics.largest(statistics.languages)),
        "</body>\n</html>\n",
    ]
    return "\n".join(parts)


def _escape(text: str) -> str:
    return html.escape(text.encode("utf-8", "replace").decode("utf-8"))


def _tiles(statistics: Statistics) -> str:
    tiles = [("rows", f"{len(statistics.entries):,}"), ("of audio", duration(statistics.seconds))]
    tiles += [("speakers", f"{len(statistics.speakers):,}")] if statistics.speakers else []
    tiles += [("words", f"{statistics.words.total():,}"), ("different words", f"{len(statistics.words):,}")]
    tiles += [("characters in use", f"{len(statistics.characters):,}")]
    tiles += [("lines that could not be counted", f"{statistics.unread:,}")] if statistics.unread else []
    shown = "".join(f'<div class="tile"><b>{value}</b><span>{name}</span></div>' for name, value in tiles)
    return f'<div class="tiles">{shown}</div>'


def _pictures(statistics: Statistics) -> str:
    shown = []
    for title, svg in figures.svgs(statistics).items():
        data = base64.b64encode(svg.encode("utf-8")).decode("ascii")
        image = f'<img src="data:image/svg+xml;base64,{data}" alt="{_escape(title)}">'
        shown.append(f"<figure><figcaption>{_escape(title)}</figcaption>{image}</figure>")
    return f'<div class="pictures">{"".join(shown)}</div>'


def _table(heads: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """The first column is text, the others are numbers."""
    head = "".join(_cell("th", n > 0, name) for n, name in enumerate(heads))
    body = "".join(f"<tr>{''.join(_cell('td', n > 0, cell) for n, cell in enumerate(cells))}</tr>\n" for cells in lines)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def _cell(tag: str, column: int, text: str) -> str:
    return f"<{tag}{' class=number' if column else ''}>{_escape(text)}</{tag}>"


def _spread(statistics: Statistics) -> str:
    columns = [*PERCENTILES, "mean"]
    return _table(["", *columns], ([m, *(figure(v[c]) for c in columns)] for m, v in statistics.spread().items()))


def _groups(title: str, found: list[tuple[str, Tally]]) -> Iterator[str]:
    if found:
        yield f"<h2>{title}</h2>"
        yield _table(["", "rows", "audio"], ([name, f"{g.rows:,}", duration(g.seconds)] for name, g in found[:_MOST_GROUPS]))
        if len(found) > _MOST_GROUPS:
            yield f'<p class="quiet">{len(found) - _MOST_GROUPS:,} with less are not shown.</p>'


def _characters(statistics: Statistics) -> Iterator[str]:
    if not statistics.characters:
        return
    yield "<h2>Characters</h2>\n"
    yield '<p class="quiet">How often each occurs. The tooltip has its number, and where it occurs first.</p>'
    yield '<div class="characters">'
    for character, count in statistics.characters.most_common(_MOST_CHARACTERS):
        shown = "␣" if character == " " else character if character.isprintable() else "·"
        tip = f"U+{ord(character):04X}, first in {statistics.first[character]}"
        yield f'<div class="character" title="{_escape(tip)}"><b>{_escape(shown)}</b><span>{count:,}</span></div>'
    yield "</div>"
    if len(statistics.characters) > _MOST_CHARACTERS:
        yield f'<p class="quiet">{len(statistics.characters) - _MOST_CHARACTERS:,} rarer ones are not shown.</p>'


def _words(statistics: Statistics) -> Iterator[str]:
    if statistics.words:
        yield "<h2>Most frequent words</h2>"
        shown = " · ".join(f"{_escape(w)}&#160;<b>{n:,}</b>" for w, n in statistics.words.most_common(_MOST_WORDS))
        yield f'<p dir="auto">{shown}</p>'


def _extremes(statistics: Statistics, folder: Path) -> Iterator[str]:
    """The rows to listen to first: what is wrong in a manifest is often at an end of one of these lists."""
    spoken = [e for e in statistics.entries if e.text and e.seconds > 0]
    lists = {
        "Fastest": sorted(spoken, key=lambda e: -e.pace),
        "Slowest": sorted(spoken, key=lambda e: e.pace),
        "Longest": sorted(statistics.entries, key=lambda e: -e.seconds),
        "Shortest": sorted(statistics.entries, key=lambda e: e.seconds),
    }
    for title, entries in lists.items():
        if entries:
            yield f"<h2>{title}</h2>"
            heads = "".join(_cell("th", n < 2, name) for n, name in enumerate(("seconds", "characters a second", "row", "text")))
            rows = "".join(_entry(entry, folder) for entry in entries[:_EXTREMES])
            yield f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'


def _entry(entry: Entry, folder: Path) -> str:
    row = entry.row
    address = _address(entry, folder)
    player = f'<audio controls preload="none" src="{_escape(address)}"></audio>' if address else ""
    return (
        f'<tr><td class="number">{entry.seconds:.2f}</td><td class="number">{entry.pace:.1f}</td>'
        f'<td class="where">{_escape(row.name)} <span class="quiet">{_escape(row.where)}</span>{player}</td>'
        f'<td dir="auto">{_escape(entry.text)}</td></tr>\n'
    )


def _address(entry: Entry, folder: Path) -> str:
    """Relative to the page; none for a file that is not there."""
    row = entry.row
    if not row.path.is_file():
        return ""
    path = os.path.abspath(row.path)
    try:
        address = quote(os.fsencode(Path(os.path.relpath(path, folder.absolute())).as_posix()))
    except ValueError:  # on Windows: another drive
        address = Path(path).as_uri()
    is_piece = row.values.get("offset") is not None
    return f"{address}#t={row.offset:.3f},{row.offset + entry.seconds:.3f}" if is_piece else address
