"""`sonant train`."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command("train")
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[section.key=value]...")
@click.option("--dry-run", is_flag=True, help="Check everything, build the model, try one batch, and write nothing.")
@click.option("--resume", is_flag=True, help="Go on with the newest version that has a checkpoint; begin if there is none.")
def train_command(config: Path, overrides: tuple[str, ...], dry_run: bool, resume: bool) -> None:
    """Train a model as CONFIG says.

    CONFIG is one YAML file: the parts of the model (task, preprocessor, tokenizer, encoder, decoder, …) and the run (train_ds,
    validation_ds, test_ds, loss, optim, trainer, exp_manager, seed; init to start from another model). Any value can be changed
    behind it, as trainer.max_steps=5000. `sonant describe encoder fastconformer` lists the fields of a part, `sonant components`
    what there is; the page docs/training.md has the sections of a run.

    A run has a folder, exp_dir/name/version. It holds the filled config, the log, numbers (metrics.jsonl, and TensorBoard's),
    checkpoints to go on from, and at the end the model, which `sonant transcribe --model` opens. A run that was stopped, or
    killed, goes on with --resume as if nothing had been.

    \b
    Examples:
      sonant train model.yaml --dry-run
      sonant train model.yaml
      sonant train model.yaml optim.lr=5.0e-4 train_ds.batch_duration=240 exp_manager.name=faster
      sonant train model.yaml --resume
      sonant train model.yaml trainer.devices=4 trainer.precision=bf16-mixed
      tensorboard --logdir runs
    """
    from sonant_training.running.reading import read

    if resume:
        overrides = (*overrides, "exp_manager.resume_if_exists=true")
    run = read(config, overrides)  # what is wrong in it is told before torch and Lightning are imported
    from sonant_training.errors import Interrupted
    from sonant_training.running import training

    if dry_run:
        click.echo(training.rehearse(run))
        return
    try:
        training.carry_out(run)
    except Interrupted as stop:
        click.echo(str(stop), err=True)
        sys.exit(stop.exit_code)
