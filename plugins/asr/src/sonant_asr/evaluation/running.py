"""What `sonant evaluate` does: a manifest recognized, or matched with hypotheses there are, scored and written down."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click
from attrs import frozen
from tqdm import tqdm

from sonant import outputs
from sonant.errors import ConfigError
from sonant.results import Failure, Transcript, dumps
from sonant_asr.evaluation import manifest, players, report
from sonant_asr.evaluation.errors import Unit, require_jiwer
from sonant_asr.evaluation.manifest import Hypothesis, Key, Row
from sonant_asr.evaluation.scores import Pair, Scores, evaluate
from sonant_asr.recognizing import say_what_is_done
from sonant_asr.settings import Settings

REPORT, SCORES, ROWS = "report.html", "scores.json", "rows.jsonl"

_KNOWN: Final = 3
"""Names that an error about hypotheses quotes."""


@frozen(kw_only=True)
class Evaluation:
    """Scores of what was recognized, and what was not."""

    scores: Scores
    failures: tuple[Failure, ...]
    facts: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """For JSON; the rows come last."""
        scores = self.scores.to_dict()
        rows = scores.pop("rows")
        failed = [{"audio_filepath": f.source, "error": str(f.error)} for f in self.failures]
        return {**self.facts, **scores, "failed": failed, "rows": rows}


@frozen
class _Recognized:
    """A row of hypotheses: the transcript, the seconds it took, and what made it."""

    transcript: Transcript
    elapsed: float
    by: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return self.transcript.to_dict() | {"elapsed": round(self.elapsed, 6), **self.by}

    def format(self, name: str) -> str:
        return dumps(self.to_dict())


def evaluate_manifest(
    path: str,
    *,
    settings: Settings | None = None,
    hypotheses: str | None = None,
    output: str | None = None,
    normalize: str = "basic",
    unit: Unit = "word",
    embed_audio: bool = False,
    overwrite: bool = False,
) -> Evaluation:
    """Recognize a manifest with `settings`, or take the `hypotheses` of a file; score them, and write it all to `output`.

    Raises:
        AudioError, ConfigError: the manifest or the hypotheses cannot be used (with the line).
        PluginError: jiwer is not installed.
    """
    require_jiwer()  # before hours of recognizing
    rows = manifest.read_manifest(Path(path))
    folder = None if output is None else _folder(output)
    facts = {"manifest": path}
    if settings is not None:
        found, failures = _recognize(rows, settings, None if folder is None else folder / ROWS, overwrite)
        facts |= {name: str(value) for name, value in settings.by.items()}
    else:
        assert hypotheses is not None
        found = manifest.read_hypotheses(Path(hypotheses))
        failures = list(_missing(rows, found, hypotheses))
        facts["hypotheses"] = hypotheses
    scored = [row for row in rows if row.key in found]
    scores = evaluate(_pairs(scored, found), normalize=normalize)
    result = Evaluation(scores=scores, failures=tuple(failures), facts=facts)
    if folder is not None:
        audio = _audio(scores, scored, folder, unit, embed_audio, None if settings is None else settings.channel)
        title = f"Evaluation of {Path(path).name}"
        page = report.page(scores, title=title, facts=facts, audio=audio, failures=failures, unit=unit)
        outputs.write_atomically(folder / REPORT, page)
        outputs.write_atomically(folder / SCORES, dumps(result.to_dict(), indent=2) + "\n")
    return result


def _folder(output: str) -> Path:
    folder = Path(output).expanduser()
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--output {output} is a file; name a folder, which gets {REPORT}, {SCORES} and {ROWS}")
    return folder


def _recognize(
    rows: Sequence[Row], settings: Settings, path: Path | None, overwrite: bool
) -> tuple[dict[Key, Hypothesis], list[Failure]]:
    """The hypotheses of an earlier run, if `path` has them, and those that it lacks."""
    wanted = list(manifest.distinct(rows))
    sink = None if path is None else outputs.open_sink(str(path), "jsonl", [row.item for row in wanted], overwrite=overwrite)
    found = {} if path is None or overwrite or not path.exists() else _earlier(path, settings)
    todo = [row for row in wanted if row.key not in found]
    say_what_is_done(len(todo), len(wanted), path)
    failures = []
    whole = False
    try:
        for row, result in _recognized(todo, settings):
            if isinstance(result, Failure):
                failures.append(result)
                continue
            _, found[row.key] = manifest.hypothesis(result.to_dict())  # as a later run will read it
            if sink is not None:
                sink.write(row.item, result)
        whole = True
    finally:
        if sink is not None:
            sink.close(whole=whole)
    return found, failures


def _earlier(path: Path, settings: Settings) -> dict[Key, Hypothesis]:
    """What an earlier run wrote.

    Raises:
        ConfigError: another model did.
    """
    found = manifest.read_hypotheses(path)
    for (name, _), hypothesis in found.items():
        if hypothesis.by != settings.by:
            raise ConfigError(
                f"{path}: {name} was recognized by {_shown(hypothesis.by)}, and this run is {_shown(settings.by)}: "
                "name another --output, or replace what is there with --overwrite"
            )
    return found


def _shown(by: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in by.items()) or "a model it does not name"


def _recognized(todo: Sequence[Row], settings: Settings) -> Iterator[tuple[Row, _Recognized | Failure]]:
    """Results in order; what passes between two of them is the time of the second, so that the sum is the time of all."""
    if not todo:
        return
    from sonant_asr.transcribing import open_recognizer  # brings torch

    recognizer = open_recognizer(settings)
    before = time.perf_counter()
    results = recognizer.transcribe([row.item for row in todo], **settings.transcribing(), stream=True, on_error="return")
    for row, result in zip(todo, tqdm(results, total=len(todo), unit="file", disable=None), strict=True):
        now = time.perf_counter()
        yield row, result if isinstance(result, Failure) else _Recognized(result, now - before, settings.by)
        before = time.perf_counter()


def _missing(rows: Sequence[Row], found: Mapping[Key, Hypothesis], source: str) -> Iterator[Failure]:
    missing = [row for row in manifest.distinct(rows) if row.key not in found]
    if len(missing) == len(rows):
        some = ", ".join(repr(name) for name, _ in list(found)[:_KNOWN]) or "nothing"
        raise ConfigError(
            f"{source} has no hypothesis for any row of the manifest; audio_filepath and offset have to be written alike. "
            f"The first there: {some}; in the manifest: {missing[0].key[0]!r}"
        )
    for row in missing:
        place = "as a whole" if row.key[1] is None else f"from {row.key[1]} s on"
        yield Failure(row.item.name, ConfigError(f"no hypothesis for it {place} in {source}"))


def _pairs(rows: Sequence[Row], found: Mapping[Key, Hypothesis]) -> Iterator[Pair]:
    """What is scored; the time it took to recognize a piece is that of the first row that names it."""
    timed: set[Key] = set()
    for row in rows:
        hypothesis = found[row.key]
        yield Pair(
            reference=row.reference,
            hypothesis=hypothesis.text,
            name=row.key[0],
            offset=row.key[1],
            duration=row.duration if hypothesis.duration is None else hypothesis.duration,
            speaker=row.speaker,
            elapsed=None if row.key in timed else hypothesis.elapsed,
        )
        timed.add(row.key)


def _audio(scores: Scores, rows: Sequence[Row], folder: Path, unit: Unit, embed: bool, channel: int | None) -> dict[Key, str]:
    """The players' addresses; what is embedded begins with the worst."""
    by_key = {row.key: row for row in rows}
    shown = [by_key[u.pair.name, u.pair.offset] for u in scores.worst(report.MOST_ROWS, unit=unit)]
    audio = players.linked(shown, folder)
    if not embed:
        return audio
    inside = players.embedded(shown, channel)
    if len(inside) < len(audio):
        click.echo(
            f"the audio of {len(inside)} utterances is in the report, that of {len(audio) - len(inside)} is linked", err=True
        )
    return audio | inside
