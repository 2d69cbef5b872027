"""`sonant evaluate`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from sonant_asr.cli import DEFAULT_MODEL

if TYPE_CHECKING:
    from sonant_asr.evaluation.errors import Unit
    from sonant_asr.evaluation.running import Evaluation
    from sonant_asr.evaluation.scores import Scores, Utterance


@click.command("evaluate")
@click.argument("manifest", metavar="MANIFEST", type=click.Path(exists=True, dir_okay=False))
@click.option(
    "-m", "--model", default=None, help="A model's name, a Hugging Face repo, a .nemo file, a folder, or a config file."
)
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
@click.option("--batch-size", type=click.IntRange(1), default=16, show_default=True, help="Most recordings in one pass.")
@click.option("--batch-seconds", type=float, default=None, help="Most seconds of audio in one pass, padding included.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, …")
@click.option("--dtype", default="auto", show_default=True, help="auto, float32, bfloat16, float16")
@click.option(
    "--threads", type=click.IntRange(1), default=None, help="CPU threads of the model. Default: the CPUs this process may use."
)
@click.option("--channel", type=click.IntRange(0), default=None, help="The channel to hear, from 0. Default: the average of all.")
@click.option("--decoder", default=None, help="The head of a hybrid model: ctc, rnnt or tdt. Default: its main one.")
@click.option("--search", default=None, help="How labels are found: the name of a search component. Default: the head's own.")
@click.option(
    "--registry", type=click.Path(exists=True, dir_okay=False), default=None, help="A file of model cards beside the packaged."
)
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
    **recognition: Any,
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
    if hypotheses is not None and recognition["model"] is not None:
        raise click.UsageError("--hypotheses is scored without a model: leave out --model, or --hypotheses")
    if embed_audio and output is None:
        raise click.UsageError("--embed-audio is about the report: name its folder with --output")
    from sonant.cli import printing
    from sonant_asr.evaluation.running import Recognition, evaluate_manifest

    if hypotheses is None:
        recognition["model"] = _model(recognition["model"])
    evaluation = evaluate_manifest(
        manifest,
        recognition=Recognition(**recognition) if hypotheses is None else None,
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
    for failure in evaluation.failures:
        click.echo(f"failed: {printing.shown(str(failure))}", err=True)  # it may quote a stranger's manifest
    if evaluation.failures:
        click.echo(f"{len(evaluation.failures)} of the recordings failed and are not counted", err=True)
        sys.exit(1)


def _model(named: str | None) -> str:
    model = named or os.environ.get("SONANT_MODEL")
    if model is None:
        click.echo(f"no --model given (nor SONANT_MODEL set): using {DEFAULT_MODEL}", err=True)
    return model or DEFAULT_MODEL


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
