"""Commands that open or write models: `config show`, `convert`."""

from __future__ import annotations

import os
from pathlib import Path

import click
import yaml

from sonant import config
from sonant.errors import CheckpointError


def add_to(app: click.Group) -> None:
    """Register these commands."""
    app.add_command(config_group)
    app.add_command(convert_command)


@click.group("config")
def config_group() -> None:
    """Look at model configs."""


@config_group.command("show")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[section.key=value]...")
def show_command(file: Path, overrides: tuple[str, ...]) -> None:
    """Check a config FILE and print it with every default filled in. Nothing is built.

    \b
    Example: sonant config show model.yaml encoder.n_layers=12
    """
    data = config.resolve_user_file(file, overrides)
    with config.located(file):
        filled = config.fill_model(data)
    click.echo(yaml.safe_dump(filled.to_dict(), sort_keys=False, allow_unicode=True).rstrip())


@click.command("convert")
@click.argument("source")
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace TARGET if it is there.")
def convert_command(source: str, target: Path, overwrite: bool) -> None:
    """Convert a model between NeMo's .nemo file and a Sonant folder.

    SOURCE is whatever `sonant.load` takes. TARGET ending in .nemo is written for NeMo, anything else becomes a folder with
    the filled config, the weights as safetensors, and the tokenizer's files. What has no counterpart (data, optimizer and
    run-time settings) is listed on standard error.

    \b
    Examples: sonant convert model.nemo folder/
              sonant convert folder/ model.nemo
    """
    from sonant.checkpoint import load, save

    if target.exists() and not overwrite and not (target.is_dir() and not any(target.iterdir())):
        raise CheckpointError(f"{target} is already there; pass --overwrite to replace it")
    model = load(source, device="cpu", dtype="stored")
    for note in model.blueprint.notes:
        click.echo(note, err=True)
    save(model, target)
    size = sum(f.stat().st_size for f in target.rglob("*") if f.is_file()) if target.is_dir() else os.path.getsize(target)
    parameters = sum(p.numel() for p in model.parameters())
    click.echo(f"wrote {target}: {parameters:,} parameters, {size / 1e6:.1f} MB", err=True)
