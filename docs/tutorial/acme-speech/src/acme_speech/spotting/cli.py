"""`sonant spot`."""

from __future__ import annotations

from typing import Any

import click


@click.command("spot")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("-m", "--model", required=True, help="A folder with a keyword spotter, or whatever else `sonant.load` opens.")
@click.option(
    "-f",
    "--format",
    "format_name",
    type=click.Choice(["txt", "json", "jsonl"]),
    default="txt",
    show_default=True,
    help="How results are written.",
)
@click.option("-o", "--output", default=None, help="A folder (a file for each recording) or a file. Default: standard output.")
@click.option("--threshold", type=click.FloatRange(0, 1), default=None, help="Averages from here on count. Default: the model's.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, …")
def spot_command(
    paths: tuple[str, ...], model: str, format_name: str, output: str | None, threshold: float | None, device: str
) -> None:
    """Find keywords in recordings: a line with start, end, keyword and score for each."""
    import sonant  # these import torch, which listing the commands must not
    from sonant import inputs, outputs
    from sonant.errors import ConfigError

    spotter: Any = sonant.load(model, device=device)
    if not hasattr(spotter, "spot"):
        raise ConfigError(f"{model} is a {type(spotter).__name__} and spots no keywords")
    items = inputs.expand(list(paths))
    sink = outputs.open_sink(output, format_name, items)
    for item, result in zip(items, spotter.spot(items, threshold=threshold), strict=True):
        sink.write(item, result)
    sink.close()
