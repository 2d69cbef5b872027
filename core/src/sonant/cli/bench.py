"""`sonant bench`: how fast a model is here, and how fast others are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sonant.cli import printing
from sonant.cli.headings import CommandWithHeadings
from sonant.errors import ConfigError

_PARTS = ["encoder", "decoder", "memory", "files"]


def _several(kind: Any) -> Callable[[click.Context, click.Parameter, str], tuple[Any, ...]]:
    """Values of a kind with commas between."""

    def read(ctx: click.Context, param: click.Parameter, text: str) -> tuple[Any, ...]:
        return tuple(kind.convert(one.strip(), param, ctx) for one in text.split(","))

    return read


_HEADINGS = {
    "What is measured": ("parts", "seconds", "batches", "repeat", "warmup"),
    "Against whom": ("against", "environments"),
    "How it runs": ("device", "dtypes", "threads", "registry"),
    "What comes out": ("output", "plot", "label", "as_json"),
}


@click.command("bench", cls=CommandWithHeadings, headings=_HEADINGS)
@click.argument("model")
@click.argument("audio", nargs=-1)
@click.option(
    "--part",
    "parts",
    multiple=True,
    type=click.Choice(_PARTS),
    help="encoder and decoder by themselves, files (end to end) and memory (the same from samples in memory). "
    "Default: the first three that the model has.",
)
@click.option(
    "--seconds",
    callback=_several(click.FloatRange(0.1)),
    metavar="S,…",
    default="10,30",
    show_default=True,
    help="Lengths of noise to work on, where no AUDIO is named.",
)
@click.option(
    "--batch",
    "batches",
    callback=_several(click.IntRange(1)),
    metavar="N,…",
    default="1",
    show_default=True,
    help="Recordings in one batch.",
)
@click.option("--repeat", type=click.IntRange(1), default=10, show_default=True, help="Timed passes of each side.")
@click.option("--warmup", type=click.IntRange(1), default=2, show_default=True, help="Passes before these, not counted.")
@click.option("--against", multiple=True, metavar="RIVAL,…", help="Who does the same work in turn: nemo, transformers.")
@click.option(
    "--env",
    "environments",
    multiple=True,
    metavar="[RIVAL=]PYTHON",
    help="The Python of the environment that rivals are installed in. Default: the one that runs this.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, …")
@click.option(
    "--dtype",
    "dtypes",
    callback=_several(click.STRING),
    metavar="DTYPE,…",
    default="auto",
    show_default=True,
    help="auto, float32, bfloat16, float16",
)
@click.option(
    "--threads", type=click.IntRange(1), default=None, help="CPU threads of each side. Default: the CPUs this process may use."
)
@click.option(
    "--registry", type=click.Path(exists=True, dir_okay=False), default=None, help="A file of model cards beside the packaged."
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Append a JSON row for each measurement.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw it: .svg, or .html with the table.")
@click.option("--label", default="", help="What to call the model in rows and pictures. Default: its file's name.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON instead of a table.")
def bench_command(
    against: tuple[str, ...],
    environments: tuple[str, ...],
    output: Path | None,
    plot: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure how fast a MODEL is on this machine.

    Without AUDIO (files, folders, manifests) the model is given noise. Each side works in turn, on the same samples, with as many
    threads; what is printed are medians and percentiles of whole passes.

    \b
    Examples: sonant bench model.nemo
              sonant bench model.nemo recordings/ --batch 1,16 --plot speed.html
              sonant bench model.nemo --against nemo --env nemo/bin/python --output rows.jsonl
    """
    from sonant.benchmarking import chart, rivals, table

    if plot is not None:
        chart.check_target(plot)
    if output is not None and not output.parent.is_dir():
        raise ConfigError(f"--output {output}: there is no folder {output.parent}")
    names = [name.strip() for text in against for name in text.split(",")]
    pythons = rivals.interpreters(names, environments)
    from sonant.benchmarking import running  # torch, and what cannot be is said before

    settings = running.Settings(**options, rivals=pythons)
    rows = []
    for row in running.measure(settings, lambda text: click.echo(printing.shown(text), err=True)):
        rows.append(row)
        if output is not None:
            running.append(output, row)
    if as_json:
        printing.as_json(rows)
    else:
        printing.table(table.lines(rows))
        click.echo()
        for text in table.remarks(rows):
            click.echo(printing.shown(text))
    if plot is not None:
        chart.write(plot, rows)
