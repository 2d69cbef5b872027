"""`sonant evaluate`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from sonant.cli.headings import CommandWithHeadings
from sonant_asr.recognizing import HEADINGS, chosen_model, exit_if_failed, how_options, model_option, registry_option

if TYPE_CHECKING:
    from sonant_asr.evaluation.errors import Unit
    from sonant_asr.evaluation.running import Evaluation
    from sonant_asr.evaluation.scores import Scores, Utterance


@click.command("evaluate", cls=CommandWithHeadings, headings=HEADINGS)
@click.argument("manifest", metavar="MANIFEST", type=click.Path(exists=True, dir_okay=False))
@model_option
@click.option(
    "--hypotheses",
    type=click.Path(exists=True, dir_okay=False),
    default=None,
    help="Score this .jsonl file, as `sonant transcribe` writes it, instead of running a model.",
)
@click.option("-o", "--output", default=None, help="A folder for report.html, scores.json and rows.jsonl.")
@click.option(
    "--normalize",
    type=click.Choice(["basic", "none"]),
    default="basic",
    show_default=True,
    help="What is done to both texts before: case and punctuation removed, or nothing.",
)
@click.option(
    "--unit",
    type=click.Choice(["word", "char"]),
    default="word",
    show_default=True,
    help="What the report aligns, plots and ranks by; char for scripts without spaces.",
)
@click.option("--worst", type=click.IntRange(0), default=5, show_default=True, help="Utterances to print, the worst first.")
@click.option("--embed-audio", is_flag=True, help="Put the audio into the report, up to 50 MB, instead of linking to the files.")
@how_options
@registry_option
@click.option("--overwrite", is_flag=True, help="Recognize again what the output already holds.")
@click.option("--json", "as_json", is_flag=True, help="Print what scores.json holds.")
def evaluate_command(
    manifest: str,
    hypotheses: str | None,
    output: str | None,
    normalize: str,
    unit: Unit,
    worst: int,
    embed_audio: bool,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Count the errors of a model on recordings whose words are known.

    MANIFEST is a .jsonl file with an audio_filepath and the text that was said on each line. The scores go to standard output,
    everything else to standard error.

    With --output, what is recognized is written as it comes, and a second run over the same folder does only what is missing. A
    recording that cannot be read is reported at the end and not counted, and the exit status is 1.

    \b
    Examples:
      sonant evaluate test.jsonl --model model.nemo
      sonant evaluate test.jsonl --model model.nemo --output report/
      sonant evaluate test.jsonl --hypotheses rows.jsonl --normalize none
    """
    if hypotheses is not None and options["model"] is not None:
        raise click.UsageError("--hypotheses is scored without a model: leave out --model, or --hypotheses")
    if embed_audio and output is None:
        raise click.UsageError("--embed-audio is about the report: name its folder with --output")
    from sonant.cli import printing
    from sonant_asr.evaluation.running import evaluate_manifest
    from sonant_asr.settings import Settings

    settings = None
    if hypotheses is None:
        settings = Settings.of(options | {"model": chosen_model(options["model"], options["registry"])})
    evaluation = evaluate_manifest(
        manifest,
        settings=settings,
        hypotheses=hypotheses,
        output=output,
        normalize=normalize,
        unit=unit,
        embed_audio=embed_audio,
        overwrite=overwrite,
    )
    if as_json:
        printing.as_json(evaluation.to_dict())
    else:
        _print(evaluation, worst, unit)
    if output is not None:
        click.echo(f"wrote {os.path.join(output, 'report.html')}", err=True)
    exit_if_failed(evaluation.failures, " and are not counted")


def _print(evaluation: Evaluation, worst: int, unit: Unit) -> None:
    from sonant.cli import printing

    scores = evaluation.scores
    facts = [*evaluation.facts.items(), ("normalization", scores.normalization), *_sizes(scores)]
    printing.table(facts)
    click.echo()
    _print_counts(scores)
    wrong = [utterance for utterance in scores.worst(worst, unit=unit) if utterance.errors(unit).errors]
    if wrong:
        click.echo("\nThe worst utterances:")
    for utterance in wrong:
        _print_utterance(utterance, unit)


def _sizes(scores: Scores) -> list[tuple[str, str]]:
    from sonant_asr.evaluation.report import duration

    audio, factor = scores.audio_seconds, scores.real_time_factor
    sizes = [("utterances", f"{len(scores.utterances):,}")]
    sizes += [("audio", duration(audio))] if audio is not None else []
    return sizes + ([("real-time factor", f"{factor:.3g}")] if factor is not None else [])


def _print_counts(scores: Scores) -> None:
    from sonant.cli import printing
    from sonant_asr.evaluation.charts import percent

    rows: list[tuple[str, ...]] = [("", "error rate", "errors", "substitutions", "deletions", "insertions", "of")]
    for name, errors in (("words", scores.words), ("characters", scores.characters)):
        counts = (errors.errors, errors.substitutions, errors.deletions, errors.insertions, errors.reference)
        rows.append((name, percent(errors.rate), *(f"{n:,}" for n in counts)))
    printing.table(rows)


def _print_utterance(utterance: Utterance, unit: Unit) -> None:
    from sonant.cli.printing import shown
    from sonant_asr.evaluation.charts import percent

    place = "" if utterance.pair.offset is None else f" from {utterance.pair.offset:g} s"
    click.echo(f"{percent(utterance.errors(unit).rate)}  {shown(utterance.pair.name)}{place}")
    click.echo(f"  said   {shown(utterance.reference)}\n  heard  {shown(utterance.hypothesis)}")
