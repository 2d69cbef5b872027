"""`sonant export`: a model as a graph for other runtimes."""

from __future__ import annotations

import glob
from pathlib import Path

import click

from sonant.cli import printing
from sonant.errors import CheckpointError


@click.command("export")
@click.argument("source")
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--decoder", default=None, help="Of a hybrid: the head to export, as ctc; the main one if not given.")
@click.option(
    "--registry", type=click.Path(exists=True, dir_okay=False), default=None, help="A file of model cards beside the packaged."
)
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
def export_command(source: str, target: Path, decoder: str | None, registry: str | None, overwrite: bool) -> None:
    """Write what a model computes as a graph: an ONNX file, or a program of torch.export.

    SOURCE is whatever `sonant.load` takes; TARGET ends in .onnx or .pt2. Features go in, for any number of recordings of any
    length. A CTC model is one file, with log-probabilities coming out; a transducer is two, `encoder-TARGET` and
    `decoder_joint-TARGET`. What is needed to use them (features, vocabulary) is in each file and in one that ends in .json.

    \b
    Examples: sonant export model.nemo model.onnx
              sonant export parakeet-tdt_ctc-110m model.pt2 --decoder ctc
    """
    from sonant.checkpoint import load
    from sonant.exporting import check_target, export

    check_target(target)
    there = [path for path in (target, target.with_suffix(".json")) if path.exists()]
    there += target.parent.glob(f"*-{glob.escape(target.name)}") if target.parent.is_dir() else []
    if there and not overwrite:
        raise CheckpointError(f"{there[0]} is already there; pass --overwrite to replace it")
    model = load(source, device="cpu", dtype="float32", registry=registry)
    for path in export(model, target, **({} if decoder is None else {"decoder": decoder})):
        click.echo(f"wrote {path}: {printing.size(path.stat().st_size)}", err=True)
