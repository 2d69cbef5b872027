"""Commands about models: `models` lists the known ones, `convert` writes one in another form."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click

from sonant import cards
from sonant.cli import printing
from sonant.errors import CheckpointError

if TYPE_CHECKING:
    from sonant.checkpoint import Form


@click.command("models")
@click.argument("pattern", default="*")
@click.option(
    "--registry", "extra", type=click.Path(exists=True, dir_okay=False), help="A file of model cards beside the packaged."
)
@click.option("--json", "as_json", is_flag=True, help="Print machine-readable output.")
def models_command(pattern: str, extra: str | None, as_json: bool) -> None:
    """List the models that can be opened by name; PATTERN is a word or a shell-style wildcard."""
    found = cards.matching(pattern, extra)
    if not found:
        raise click.ClickException(f"no model matches {pattern!r}; `sonant models` lists all")
    if as_json:
        printing.as_json([attrs.asdict(card) for card in found])
    else:
        printing.table([(c.name, c.task, ",".join(c.languages), c.parameters or "", c.license or "", c.summary) for c in found])


@click.command("convert")
@click.argument("source")
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "form",
    type=click.Choice(["auto", "sonant", "nemo", "huggingface"]),
    default="auto",
    show_default=True,
    help="What to write; auto: for NeMo where TARGET ends in .nemo, else a Sonant folder.",
)
@click.option("--overwrite", is_flag=True, help="Replace TARGET if it is there.")
def convert_command(source: str, target: Path, form: Form, overwrite: bool) -> None:
    """Convert a model between NeMo's .nemo file, a Hugging Face model and a Sonant folder.

    SOURCE is whatever `sonant.load` takes. TARGET ending in .nemo is written for NeMo, anything else becomes a folder with
    the filled config, the weights as safetensors, and the tokenizer's files; with `--to huggingface` one that transformers
    opens. What has no counterpart (data, optimizer and run-time settings) is listed on standard error.

    \b
    Examples: sonant convert model.nemo folder/
              sonant convert folder/ model.nemo
              sonant convert model.nemo folder/ --to huggingface
    """
    from sonant.checkpoint import load, save

    if target.suffix in (".onnx", ".pt2"):
        raise CheckpointError(f"{target}: `sonant export` writes {target.suffix} files; convert writes models that open again")
    if target.exists() and not overwrite and not (target.is_dir() and not any(target.iterdir())):
        raise CheckpointError(f"{target} is already there; pass --overwrite to replace it")
    model = load(source, device="cpu", dtype="stored")
    for note in model.blueprint.notes:
        click.echo(note, err=True)
    save(model, target, form=form)
    size = sum(f.stat().st_size for f in target.rglob("*") if f.is_file()) if target.is_dir() else os.path.getsize(target)
    parameters = sum(p.numel() for p in model.parameters())
    click.echo(f"wrote {target}: {parameters:,} parameters, {size / 1e6:.1f} MB", err=True)
