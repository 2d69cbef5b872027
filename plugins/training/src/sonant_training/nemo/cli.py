"""`sonant convert-config`: NeMo's training configs as ours."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import click


@click.command("convert-config")
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--max-steps",
    type=click.IntRange(1),
    default=None,
    help="Optimizer steps of the run, for configs that count epochs.",
)
@click.option("--overwrite", is_flag=True, help="Replace TARGET if it is there.")
def convert_config_command(source: Path, target: Path, max_steps: int | None, overwrite: bool) -> None:
    """Convert a training config of NeMo to one for `sonant train`.

    SOURCE is the YAML file that NeMo's training scripts take, of a recognizer with a CTC, transducer, hybrid or attention
    head. What becomes otherwise, what is left out and what is still to be filled in is listed on standard error, and stands
    at the top of TARGET. Nothing that SOURCE names is imported or run.

    \b
    Example: sonant convert-config fast-conformer_ctc_bpe.yaml my_asr.yaml
    """
    from sonant.errors import ConfigError
    from sonant_training.nemo.converting import convert
    from sonant_training.nemo.writing import summary, to_yaml

    if target.exists() and not overwrite:
        raise ConfigError(f"{target} is already there; pass --overwrite to replace it")
    done = convert(source, _seen_from(target.resolve().parent), max_steps)
    target.write_text(to_yaml(done, source.name), encoding="utf-8")
    for line in summary(done):
        click.echo(line, err=True)
    click.echo(f"wrote {target}", err=True)


def _seen_from(folder: Path) -> Callable[[str], str]:
    """NeMo finds files from the current folder, and Sonant from that of the config."""

    def locate(name: str) -> str:
        return name if Path(name).is_absolute() or "://" in name else os.path.relpath(Path.cwd() / name, folder)

    return locate
