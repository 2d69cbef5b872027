"""`sonant transcribe`."""

from __future__ import annotations

import os
from typing import Any

import click

from sonant.cli.headings import CommandWithHeadings
from sonant_asr.live.options import check, live_options
from sonant_asr.recognizing import HEADINGS, chosen_model, exit_if_failed, how_options, model_option, registry_option


def _shard(_: Any, __: Any, value: str | None) -> tuple[int, int]:
    """`k/n`, counted from 1; by default what torchrun and Slurm launchers say."""
    if value is None:
        rank, world = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
        if not (rank.isdecimal() and world.isdecimal() and int(rank) < max(1, int(world))):
            raise click.BadParameter(f"RANK={rank!r} and WORLD_SIZE={world!r} are not a rank below a number of processes")
        return (int(rank) + 1, int(world)) if int(world) > 1 else (1, 1)
    k, slash, n = value.partition("/")
    if not (slash and k.isdecimal() and n.isdecimal() and 1 <= int(k) <= int(n)):
        raise click.BadParameter(f"{value!r} is not k/n with 1 <= k <= n, e.g. 2/8")
    return int(k), int(n)


@click.command("transcribe", cls=CommandWithHeadings, headings=HEADINGS)
@click.argument("paths", nargs=-1, metavar="PATH...")
@model_option
@click.option(
    "-f",
    "--format",
    "format_name",
    type=click.Choice(["txt", "json", "jsonl", "srt", "vtt", "ctm"]),
    default=None,
    help="Default: what the suffix of --output says, else txt.",
)
@click.option("-o", "--output", default=None, help="A folder (a file for each recording) or a file. Default: standard output.")
@click.option(
    "-t",
    "--timestamps",
    type=click.Choice(["segment", "word", "char"]),
    default=None,
    help="How fine. Default: what the format needs.",
)
@how_options
@click.option(
    "--n-best",
    type=click.IntRange(1),
    default=None,
    help="So many readings of a recording, of a beam search; in json and jsonl, as alternatives.",
)
@click.option(
    "--shard",
    callback=_shard,
    default=None,
    metavar="K/N",
    help="Take only every Nth recording, from the Kth. Default: $RANK and $WORLD_SIZE.",
)
@registry_option
@click.option("--overwrite", is_flag=True, help="Transcribe again what the output already holds.")
@live_options
@click.pass_context
def transcribe_command(context: click.Context, /, **options: Any) -> None:
    """Write down what is said in recordings.

    PATH is an audio file (wav, flac, ogg, mp3, at any rate and with any channels), a folder of them, or a .jsonl manifest with
    an audio_filepath on each line. The text goes to standard output, everything else to standard error.

    With --output, results are written as they come, whole or not at all, and a second run over the same output does only what is
    missing. A recording that cannot be read is reported at the end, the rest is transcribed, and the exit status is 1.

    \b
    Examples:
      sonant transcribe talk.mp3
      sonant transcribe talk.wav --format srt > talk.srt
      sonant transcribe recordings/ --output transcripts/ --format json --timestamps word
      sonant transcribe corpus.jsonl --output out.jsonl --shard 1/4
      sonant transcribe --live
      ffmpeg -i rtsp://camera/1 -f wav - | sonant transcribe --live -
    """
    from sonant_asr.settings import Settings

    check(context)
    settings = Settings.of(options | {"model": chosen_model(options["model"], options["registry"])})
    output = {name: options[name] for name in ("format_name", "output", "overwrite")}
    if options["live"]:
        from sonant_asr.live.running import run_live

        source = next(iter(options["paths"]), None)
        run_live(source, settings, look_ahead=options["look_ahead"], microphone=options["microphone"], **output)
        return
    from sonant_asr.transcribing import run

    failures = run(options["paths"], settings, timestamps=options["timestamps"], shard=options["shard"], **output)
    exit_if_failed(failures, "; the others are done")
