"""`sonant config`: looking at model configs."""

from __future__ import annotations

from pathlib import Path

import click

from sonant import config
from sonant.cli import printing


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
    config.warn_of_deprecated(filled)
    printing.as_yaml(filled.to_dict())
