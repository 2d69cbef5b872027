"""A page to look at: what was said beside what was recognized, with the audio. One file that fetches nothing.

Texts come from manifests and models, so all of them are escaped; beyond that a content security policy lets only this page's own
script run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Final

from sonant.results import Failure
from sonant_asr.evaluation import charts
from sonant_asr.evaluation.charts import escape, percent
from sonant_asr.evaluation.errors import Errors, Outcome, Step, Unit
from sonant_asr.evaluation.scores import Scores, Utterance

MOST_ROWS: Final = 2000
"""Utterances in the table; a browser is slow with many more."""

_CLASSES: Final[dict[Outcome, str]] = {"substitution": "sub", "deletion": "del", "insertion": "ins"}
_NAMES: Final[dict[Unit, str]] = {"word": "Word", "char": "Character"}


def page(
    scores: Scores,
    *,
    title: str,
    facts: Mapping[str, str] | None = None,
    audio: Mapping[tuple[str, float | None], str] | None = None,
    failures: Sequence[Failure] = (),
    unit: Unit = "word",
) -> str:
    """The page as HTML.

    Args:
        scores: what it shows.
        title: its heading.
        facts: what else stands below the heading, as `{"model": "…"}`.
        audio: addresses by the name and offset of an utterance; where there is none there is no player.
        failures: recordings without a result.
        unit: what the alignments, the plots and the order go by.
    """
    style, script = _resource("page.css"), _resource("page.js")
    policy = f"default-src 'none'; media-src 'self' file: data:; style-src {_digest(style)}; script-src {_digest(script)}"
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>",
        f"<h1>{escape(title)}</h1>",
        _facts({"normalization": scores.normalization, **(facts or {})}),
        _tiles(scores, len(failures)),
        _counts(scores),
        *_failed(failures),
        *_plots(scores, unit),
        *_table(scores, audio or {}, unit),
        f"<script>{script}</script>\n</body>\n</html>\n",
    ]
    return "\n".join(parts)


def _resource(name: str) -> str:
    return files("sonant_asr.evaluation").joinpath(name).read_text("utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _facts(facts: Mapping[str, str]) -> str:
    return f'<p class="facts">{" · ".join(f"{escape(name)} <b>{escape(value)}</b>" for name, value in facts.items())}</p>'


def _tiles(scores: Scores, failed: int) -> str:
    audio, factor = scores.audio_seconds, scores.real_time_factor
    tiles = [
        ("word error rate", percent(scores.word_error_rate)),
        ("character error rate", percent(scores.character_error_rate)),
        ("utterances", f"{len(scores.utterances):,}"),
    ]
    tiles += [("of audio", duration(audio))] if audio is not None else []
    tiles += [("real-time factor", f"{factor:.3g}")] if factor is not None else []
    tiles += [("failed, not counted", f"{failed:,}")] if failed else []
    return (
        f'<div class="tiles">{"".join(f"<div class=tile><b>{value}</b><span>{name}</span></div>" for name, value in tiles)}</div>'
    )


def duration(seconds: float) -> str:
    """As people read it: `7.2 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _counts(scores: Scores) -> str:
    heads = ["", "error rate", "errors", "substitutions", "deletions", "insertions", "hits", "in reference", "in hypothesis"]
    head = "".join(f'<th scope="col" class="number">{name}</th>' for name in heads)
    return (
        f'<div class="scroll"><table id="counts"><thead><tr>{head}</tr></thead>'
        f"<tbody>{_count_row('words', scores.words)}{_count_row('characters', scores.characters)}</tbody></table></div>"
        '<p class="quiet">Error rate: substitutions, deletions and insertions for each word or character of the reference; '
        "spaces count as characters.</p>"
    )


def _count_row(name: str, errors: Errors) -> str:
    counts = (errors.errors, errors.substitutions, errors.deletions, errors.insertions, errors.hits)
    cells = [percent(errors.rate), *(f"{n:,}" for n in (*counts, errors.reference, errors.hypothesis))]
    return f'<tr><th scope="row">{name}</th>{"".join(f"<td class=number>{cell}</td>" for cell in cells)}</tr>'


def _failed(failures: Sequence[Failure]) -> Iterator[str]:
    if failures:
        yield "<h2>Failed</h2>\n<ul>"
        yield from (f"<li>{escape(str(failure))}</li>" for failure in failures)
        yield "</ul>"


def _plots(scores: Scores, unit: Unit) -> Iterator[str]:
    groups = {"duration": charts.by_duration(scores.utterances, unit), "speaker": charts.by_speaker(scores.utterances, unit)}
    if any(groups.values()):
        yield f'<h2>{_NAMES[unit]} error rate by group</h2>\n<p class="quiet">The dashed line is the rate of all together.</p>'
    for name, bars in groups.items():
        if bars:
            yield charts.svg(f"{_NAMES[unit]} error rate by {name}", bars, scores.errors(unit), unit)


def _table(scores: Scores, audio: Mapping[tuple[str, float | None], str], unit: Unit) -> Iterator[str]:
    ranked = scores.worst(MOST_ROWS, unit=unit)
    yield "<h2>Utterances</h2>"
    if len(ranked) < len(scores.utterances):
        yield f"<p>The worst {len(ranked):,} of {len(scores.utterances):,}; the others are in the JSON file of the scores.</p>"
    yield (
        '<div class="legend">Upper line: what was said; lower line: what was recognized. '
        '<span class="step sub">S substitution</span><span class="step del">D deletion</span>'
        '<span class="step ins">I insertion</span></div>'
        '<div id="controls" class="controls" hidden>'
        '<input id="search" type="search" placeholder="Find in texts and names" aria-label="Find in texts and names">'
        '<label><input id="wrong" type="checkbox"> with errors only</label>'
        '<span id="count" class="quiet" role="status"></span></div>'
    )
    heads = [("WER", True), ("errors", True), ("CER", True), ("seconds", True), ("utterance", False), ("alignment", False)]
    head = "".join(f'<th scope="col"{" class=number" * number}><button>{name}</button></th>' for name, number in heads)
    characters = ' class="characters"' if unit == "char" else ""
    yield f'<div class="scroll"><table id="utterances"{characters}><thead><tr>{head}</tr></thead>\n<tbody>'
    for utterance in ranked:
        yield _row(utterance, audio.get((utterance.pair.name, utterance.pair.offset)), unit)
    yield "</tbody></table></div>"


def _row(utterance: Utterance, address: str | None, unit: Unit) -> str:
    pair, errors = utterance.pair, utterance.errors(unit)
    text = " ".join([pair.name, pair.speaker or "", utterance.reference, utterance.hypothesis])
    seconds = "" if pair.duration is None else f"{pair.duration:.2f}"
    cells = [
        _number(utterance.words.rate, percent(utterance.words.rate), utterance.words.errors),
        _number(errors.errors, str(errors.errors), 0),
        _number(utterance.characters.rate, percent(utterance.characters.rate), utterance.characters.errors),
        f'<td class="number" data-key="{seconds or -1}">{seconds}</td>',
        _where(utterance, address),
        f'<td data-key="{escape(utterance.reference)}">{_alignment(utterance, unit)}</td>',
    ]
    return f'<tr data-errors="{errors.errors}" data-text="{escape(text)}">{"".join(cells)}</tr>'


def _number(value: float | None, shown: str, errors: int) -> str:
    """A cell to sort by; an undefined rate is the highest where there are errors, else the lowest."""
    key = ("1e9" if errors else "-1") if value is None else f"{value:.6g}"
    return f'<td class="number" data-key="{key}">{shown}</td>'


def _where(utterance: Utterance, address: str | None) -> str:
    pair = utterance.pair
    details = [] if pair.offset is None else [f"from {pair.offset:.2f} s"]
    details += [] if pair.speaker is None else [f"speaker {pair.speaker}"]
    quiet = f' <span class="quiet">{escape(", ".join(details))}</span>' if details else ""
    player = f'<audio controls preload="none" src="{escape(address)}"></audio>' if address else ""
    return f'<td class="where" data-key="{escape(pair.name)}">{escape(pair.name)}{quiet}{player}</td>'


def _alignment(utterance: Utterance, unit: Unit) -> str:
    steps = "".join(map(_step, utterance.aligned(unit)))
    names = '<span class="step names" dir="ltr"><span>said</span><span>heard</span></span>'
    return f'<div class="steps" dir="auto">{names}{steps}</div>'


def _step(step: Step) -> str:
    cells = "".join(f"<span>{_unit(text, step.outcome)}</span>" for text in (step.reference, step.hypothesis))
    if step.outcome == "hit":
        return f'<span class="step">{cells}</span>'
    return (
        f'<span class="step {_CLASSES[step.outcome]}">{cells}<abbr title="{step.outcome}">{step.outcome[0].upper()}</abbr></span>'
    )


def _unit(text: str | None, outcome: Outcome) -> str:
    """A space where something is wrong with it is drawn."""
    if text is None:
        return "&#160;"
    return ("&#160;" if outcome == "hit" else "␣") if text.isspace() else escape(text)
