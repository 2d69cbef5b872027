"""`sonant data`: making manifests, and looking at them before training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from sonant.cli.headings import CommandWithHeadings

if TYPE_CHECKING:
    from sonant_training.data.tools.making import Made
    from sonant_training.data.tools.statistics import Statistics
    from sonant_training.data.tools.validating import Report

_PROBLEMS: Final = (  # those of `findings.PROBLEMS`, which would bring numpy, but for `row`: what is no row cannot be kept
    ("missing", "unreadable", "silent", "clipped", "length", "duration", "pace", "empty", "characters", "duplicate")
)
_LIMITS: Final = ("silence", "clipping", "shortest", "longest", "tolerance", "slowest", "fastest", "characters")
_manifests = click.argument(
    "manifests", nargs=-1, required=True, metavar="MANIFEST...", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
_workers = click.option("--workers", type=click.IntRange(1), default=None, help="Threads. Default: one for each CPU.")
_json = click.option("--json", "as_json", is_flag=True, help="Print all of it, machine-readable.")


@click.group("data")
def data_group() -> None:
    """Make manifests, find what is wrong in them, see what they hold."""


@data_group.command("make")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The manifest to write.")
@click.option("--overwrite", is_flag=True, help="Replace what --output names.")
@click.option(
    "--texts",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A table: a recording's name, a tab or |, its text. May be given several times. Default: files beside the recordings.",
)
@click.option("--lang", default=None, help="The language of all, as en.")
@click.option("--speaker", default=None, help="The speaker of all.")
@_workers
def make_command(
    folder: Path, output: Path, overwrite: bool, texts: tuple[Path, ...], workers: int | None, **values: str | None
) -> None:
    """Make a manifest of the recordings in FOLDER, searched through all levels.

    The text of a.wav is what a.txt or a.lab beside it holds, or its line in the .trans.txt of its folder, or in the table that
    --texts names. Recordings without a text, and those that cannot be read, are left out and counted; the exit status is then 1.

    \b
    Examples:
      sonant data make recordings -o corpus.jsonl --lang en
      sonant data make LJSpeech-1.1/wavs -o corpus.jsonl --texts LJSpeech-1.1/metadata.csv
    """
    from sonant.outputs import write_atomically
    from sonant.results import dumps
    from sonant_training.data.tools.making import make
    from sonant_training.data.tools.numbers import duration

    _refuse_existing(output, overwrite)
    given = {key: value for key, value in values.items() if value is not None}
    made = make(folder, output, texts=texts, values=given, workers=workers)
    if not made.rows:
        raise click.ClickException(f"{output} is not written: {_left_out(made)}")
    write_atomically(output, "".join(dumps(row) + "\n" for row in made.rows))
    click.echo(f"wrote {output}: {len(made.rows):,} row{'s' * (len(made.rows) > 1)}, {duration(made.seconds)}", err=True)
    if made.without_text or made.unreadable:
        click.echo(f"left out: {_left_out(made)}", err=True)
        raise SystemExit(1)


def _left_out(made: Made) -> str:
    """How many recordings have no row, and the first of them."""
    from sonant.cli.printing import shown

    parts = []
    if made.without_text:
        parts.append(f"{len(made.without_text):,} without a text, as {shown(str(made.without_text[0]))}")
    if made.unreadable:
        path, fault = made.unreadable[0]
        parts.append(f"{len(made.unreadable):,} that cannot be read, as {shown(str(path))}: {shown(fault)}")
    return "; ".join(parts)


@data_group.command("validate", cls=CommandWithHeadings, headings={"What is a problem": _LIMITS})
@_manifests
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Write the rows that are fine here."
)
@click.option("--overwrite", is_flag=True, help="Replace what --output names.")
@click.option(
    "--keep", type=click.Choice(_PROBLEMS), multiple=True, help="Rows with this problem are fine. May be given several times."
)
@click.option("--examples", type=click.IntRange(0), default=3, show_default=True, help="Rows to print for each problem.")
@_workers
@_json
@click.option(
    "--silence", type=float, default=-60.0, show_default=True, help="Silent: no 25 ms are this loud, in dB of full scale."
)
@click.option("--clipping", type=float, default=0.5, show_default=True, help="Clipped: more percent of the samples are cut off.")
@click.option("--shortest", type=float, default=0.1, show_default=True, help="Seconds a row has at least.")
@click.option("--longest", type=float, default=None, help="Seconds a row has at most. Default: no limit.")
@click.option(
    "--tolerance", type=float, default=0.2, show_default=True, help="Seconds a duration may be wrong; 1 % if that is more."
)
@click.option("--slowest", type=float, default=0.5, show_default=True, help="Characters a second, at least.")
@click.option("--fastest", type=float, default=30.0, show_default=True, help="Characters a second, at most.")
@click.option(
    "--characters", default=None, help='All that texts may hold, as " \'abcdefghijklmnopqrstuvwxyz". Default: what is not odd.'
)
def validate_command(
    manifests: tuple[Path, ...],
    output: Path | None,
    overwrite: bool,
    keep: tuple[str, ...],
    examples: int,
    workers: int | None,
    as_json: bool,
    characters: str | None,
    **limits: Any,
) -> None:
    """Find what is wrong in manifests, and write one without it.

    Every recording is read to its end: files that are missing or damaged, silent or clipped, that are not as long as the manifest
    says or hold impossibly much or little text for their length, texts that are empty or have odd characters, and audio that is
    there twice, also in two manifests.

    Without --output the exit status is 1 if a row has a problem that is not kept.

    \b
    Examples:
      sonant data validate train.jsonl
      sonant data validate train.jsonl dev.jsonl test.jsonl
      sonant data validate train.jsonl -o clean.jsonl --keep clipped --longest 20
    """
    from sonant.cli import printing
    from sonant_training.data.tools.findings import Limits
    from sonant_training.data.tools.validating import validate

    _refuse_existing(output, overwrite)
    report = validate(
        manifests,
        limits=Limits(
            characters=None if characters is None else frozenset(characters),
            **limits | {"clipping": limits["clipping"] / 100},
        ),
        keep=frozenset(keep),
        output=output,
        workers=workers,
    )
    if as_json:
        printing.as_json(report.to_dict())
    else:
        _print_report(report, examples)
    if output is not None:
        click.echo(f"wrote {output}: {report.fine:,} of {report.rows:,} rows", err=True)
    elif report.fine < report.rows:
        raise SystemExit(1)


def _refuse_existing(output: Path | None, overwrite: bool) -> None:
    if output is not None and output.exists() and not overwrite:
        raise click.ClickException(f"{output} is already there; pass --overwrite to replace it")


def _print_report(report: Report, examples: int) -> None:
    from sonant.cli import printing
    from sonant_training.data.tools.findings import PROBLEMS
    from sonant_training.data.tools.numbers import duration

    lines: list[tuple[str, ...]] = [("", "rows", "audio", "")]
    for problem, meaning in PROBLEMS.items():
        if count := report.problems[problem]:
            kept = " (kept)" if problem in report.kept else ""
            seconds = report.problem_seconds[problem]
            lines.append((problem, f"{count:,}", duration(seconds) if seconds else "", meaning + kept))
    lines.append(("fine", f"{report.fine:,}", duration(report.fine_seconds), ""))
    lines.append(("all", f"{report.rows:,}", duration(report.seconds), _formats(report)))
    printing.table(lines)
    for problem in PROBLEMS:
        _print_examples(report, problem, examples)


def _formats(report: Report) -> str:
    """`16,000 Hz mono`, or all that there are with their rows."""
    rates, channels = report.sample_rates, report.channels
    parts = [f"{rate:,} Hz" + (f" ({count:,} rows)" if len(rates) > 1 else "") for rate, count in sorted(rates.items())]
    for number, count in sorted(channels.items()):
        name = {1: "mono", 2: "stereo"}.get(number, f"{number} channels")
        parts.append(name + (f" ({count:,} rows)" if len(channels) > 1 else ""))
    return ", ".join(parts)


def _print_examples(report: Report, problem: str, most: int) -> None:
    from sonant.cli.printing import shown

    found = [checked for checked in report.found if any(f.problem == problem for f in checked.findings)]
    if not found or not most:
        return
    click.echo(f"\n{problem}:")
    for checked in found[:most]:
        details = "; ".join(f.detail for f in checked.findings if f.problem == problem)
        name = f" {checked.row.name}" if checked.row.name else ""
        click.echo(f"  {shown(checked.row.where + name)}: {shown(details)}")
    if len(found) > most:
        click.echo(f"  and {len(found) - most:,} more; --json has all")


@data_group.command("stats")
@_manifests
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="A page (.html), a picture (.png, .svg, .pdf) or the numbers (.json). May be given several times.",
)
@click.option("--top", type=click.IntRange(0), default=10, show_default=True, help="Speakers, languages and words to print.")
@_workers
@_json
def stats_command(manifests: tuple[Path, ...], outputs: tuple[Path, ...], top: int, workers: int | None, as_json: bool) -> None:
    """Tell what manifests hold: durations, speakers, words, characters.

    Audio is not read, only the headers of files whose duration the manifest does not tell.

    \b
    Examples:
      sonant data stats train.jsonl
      sonant data stats train.jsonl -o stats.html -o stats.png
    """
    _refuse_suffixes(outputs)
    from sonant.cli import printing
    from sonant_training.data.tools.statistics import collect

    statistics = collect(manifests, workers=workers)
    if as_json:
        printing.as_json(statistics.to_dict())
    else:
        _print_statistics(statistics, top)
    for output in outputs:
        _write(statistics, output)
        click.echo(f"wrote {output}", err=True)


def _refuse_suffixes(outputs: tuple[Path, ...]) -> None:
    for output in outputs:
        if output.suffix not in _SUFFIXES:
            raise click.ClickException(f"{output} ends in none of {', '.join(_SUFFIXES)}, which say what to write")


_SUFFIXES: Final = (".html", ".png", ".svg", ".pdf", ".json")


def _write(statistics: Statistics, output: Path) -> None:
    from sonant.outputs import write_atomically

    if output.suffix == ".json":
        from sonant.results import dumps

        write_atomically(output, dumps(statistics.to_dict(), indent=2) + "\n")
    elif output.suffix == ".html":
        from sonant_training.data.tools.page import page

        write_atomically(output, page(statistics, output.parent))
    else:
        from sonant_training.data.tools import figures

        output.parent.mkdir(parents=True, exist_ok=True)
        figures.save(statistics, output)


def _print_statistics(statistics: Statistics, top: int) -> None:
    from sonant.cli import printing
    from sonant_training.data.tools.numbers import duration, figure
    from sonant_training.data.tools.statistics import PERCENTILES

    words, different = statistics.words.total(), len(statistics.words)
    once = sum(count == 1 for count in statistics.words.values())
    facts = [("rows", f"{len(statistics.entries):,}"), ("audio", duration(statistics.seconds))]
    facts += [("speakers", f"{len(statistics.speakers):,}")] if statistics.speakers else []
    facts += [("words", f"{words:,}, of which {different:,} are different and {once:,} occur once")]
    facts += [("characters", f"{statistics.characters.total():,}, of which {len(statistics.characters):,} are different")]
    facts += [("not counted", f"{statistics.unread:,}; sonant data validate says why")] if statistics.unread else []
    printing.table(facts)
    columns = [*PERCENTILES, "mean"]
    click.echo()
    printing.table([("", *columns), *((m, *(figure(v[c]) for c in columns)) for m, v in statistics.spread().items())])
    for name, groups in (("speaker", statistics.speakers), ("language", statistics.languages)):
        if groups and top:
            click.echo()
            found = statistics.largest(groups)
            printing.table([(name, "rows", "audio"), *((n, f"{g.rows:,}", duration(g.seconds)) for n, g in found[:top])])
            if len(found) > top:
                click.echo(f"and {len(found) - top:,} more; --top {len(found)} shows all")
    _print_characters(statistics, top)


def _print_characters(statistics: Statistics, top: int) -> None:
    from sonant.cli.printing import shown

    if not statistics.words or not top:
        return
    click.echo("\nthe most frequent words: " + shown(", ".join(word for word, _ in statistics.words.most_common(top))))
    ranked = ["␣" if character == " " else character for character, _ in statistics.characters.most_common()]
    click.echo("the characters, most frequent first: " + shown(" ".join(ranked[:_MOST_CHARACTERS])))
    rare = [(c, n) for c, n in reversed(statistics.characters.most_common()) if n <= _RARE]
    if rare and len(statistics.characters) <= _MOST_CHARACTERS:
        click.echo("\nrare characters:")
        for character, count in rare[:top]:
            click.echo(f"  {shown(character)}  {count} time{'s' * (count > 1)}, first in {shown(statistics.first[character])}")


_MOST_CHARACTERS: Final = 200
_RARE: Final = 3
