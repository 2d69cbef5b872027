"""What the commands that recognize share: their options, the model when none is named, and what they say."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from sonant.results import Failure

DEFAULT_MODEL = "parakeet-tdt_ctc-110m"
SPARE_MODEL = "en-small"
"""What is used in its place where it cannot be fetched: a distribution of its own brings it, weights included."""

model_option = click.option(
    "-m", "--model", default=None, help="A model's name, a Hugging Face repo, a .nemo file, a folder, or a config file."
)
registry_option = click.option(
    "--registry", type=click.Path(exists=True, dir_okay=False), default=None, help="A file of model cards beside the packaged."
)

_PROMPT = (
    click.option("--source-lang", default=None, metavar="LANG", help="The language spoken, as en; for models that are told."),
    click.option("--target-lang", default=None, metavar="LANG", help="The language to write, as de: another one translates."),
    click.option(
        "--task",
        type=click.Choice(["transcribe", "translate"]),
        default=None,
        help="What to write. Default: a translation, if the languages differ.",
    ),
    click.option("--punctuation/--no-punctuation", default=None, help="Write punctuation and capitals. Default: the model's."),
    click.option("--itn/--no-itn", default=None, help="Write numbers and abbreviations as people do. Default: the model's."),
    click.option("--diarize/--no-diarize", default=None, help="Let the model write who speaks. Default: the model's."),
    click.option("--context", default=None, metavar="TEXT", help="Text that came before, which the model continues."),
)

_HOW = (
    click.option("--batch-size", type=click.IntRange(1), default=16, show_default=True, help="Most recordings in one pass."),
    click.option("--batch-seconds", type=float, default=None, help="Most seconds of audio in one pass, padding included."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, …"),
    click.option("--dtype", default="auto", show_default=True, help="auto, float32, bfloat16, float16"),
    click.option(
        "--threads",
        type=click.IntRange(1),
        default=None,
        help="CPU threads of the model. Default: the CPUs this process may use.",
    ),
    click.option(
        "--channel", type=click.IntRange(0), default=None, help="The channel to hear, from 0. Default: the average of all."
    ),
    *_PROMPT,
    click.option("--decoder", default=None, help="The head of a hybrid model: ctc, rnnt or tdt. Default: its main one."),
    click.option("--search", default=None, help="How labels are found: the name of a search component. Default: the head's own."),
    click.option("--beam", type=click.IntRange(1), default=None, help="Search with so many hypotheses instead of greedily."),
    click.option("--boost", default=None, metavar="WORDS", help="Phrases to favour, separated by commas, as the model spells."),
    click.option(
        "--boost-file",
        type=click.Path(exists=True, dir_okay=False),
        default=None,
        help="Phrases to favour, one on each line; a number behind a tab is the phrase's own weight.",
    ),
    click.option("--boost-weight", type=float, default=None, help="Of the phrases. Default: 1."),
    click.option(
        "--lm",
        type=click.Path(exists=True, dir_okay=False),
        default=None,
        help="An n-gram language model over the model's tokens: ARPA, also gzipped, or KenLM's binary format.",
    ),
    click.option("--lm-weight", type=float, default=None, help="Of the language model. Default: 0.3."),
    click.option("--confidence", is_flag=True, help="Say how sure the model is of each word, in json, jsonl and ctm."),
    click.option(
        "--chunking",
        default=None,
        metavar="MODE",
        help="How long recordings are heard: auto, full, local, chunks or chunks:SECONDS. Default: auto, by length and memory.",
    ),
)


_LISTENING = ("boost", "boost_file", "boost_weight", "lm", "lm_weight")
HEADINGS = {
    "How words are found": ("decoder", "search", "beam", "n_best", *_LISTENING, "confidence", "channel"),
    "Of models that are told what to write": ("source_lang", "target_lang", "task", "punctuation", "itn", "diarize", "context"),
    "How it runs": ("batch_size", "batch_seconds", "chunking", "device", "dtype", "threads", "shard", "registry"),
    "While it is spoken": ("live", "look_ahead", "microphone"),
}
"""Of the help, with the options below each."""


def how_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say how a model runs, from `--batch-size` to `--search`."""
    for option in reversed(_HOW):
        command = option(command)
    return command


def chosen_model(named: str | None, registry: str | None = None) -> str:
    """The model of `--model`, of `SONANT_MODEL`, or the default, which is said."""
    model = named or os.environ.get("SONANT_MODEL")
    if model:
        return model
    spare = _spare(registry)
    why = f" ({DEFAULT_MODEL} cannot be fetched), which is small and hears far less well" if spare else ""
    click.echo(f"no --model given (nor SONANT_MODEL set): using {spare or DEFAULT_MODEL}{why}", err=True)
    return spare or DEFAULT_MODEL


def _spare(registry: str | None) -> str | None:
    """The model that is installed, if there is one and the default cannot be had."""
    from sonant import sources
    from sonant.errors import DownloadError, UnknownName

    try:
        sources.locate(SPARE_MODEL, registry=registry)
    except (DownloadError, UnknownName):
        return None
    try:
        sources.locate(DEFAULT_MODEL, registry=registry)
    except DownloadError:
        return SPARE_MODEL
    return None


def say_what_is_done(todo: int, total: int, output: object) -> None:
    """How many recordings an earlier run left nothing to do for."""
    if todo < total:
        click.echo(f"{total - todo} of {total} recordings are already in {output}; --overwrite does them again", err=True)


def exit_if_failed(failures: Sequence[Failure], consequence: str) -> None:
    """Name the recordings that failed, and end with status 1 if there are any."""
    from sonant.cli import printing

    for failure in failures:
        click.echo(f"failed: {printing.shown(str(failure))}", err=True)  # it may quote a stranger's manifest
    if failures:
        click.echo(f"{len(failures)} of the recordings failed{consequence}", err=True)
        sys.exit(1)
