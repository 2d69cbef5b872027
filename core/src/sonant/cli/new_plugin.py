"""`sonant new-plugin`: a package to begin with."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from sonant import scaffold
from sonant.spec import KINDS


@click.command("new-plugin", epilog=f"Kinds: {', '.join(KINDS)}.")
@click.argument("name")
@click.option("--kind", "kinds", multiple=True, help="What to begin with; may be given several times. Without, an encoder.")
@click.option("--into", type=click.Path(path_type=Path), metavar="FOLDER", help="Where to write it. Without, a folder NAME.")
@click.option("--vendor", help="What stands before the names of components. Without, NAME up to its first '-'.")
def new_plugin_command(name: str, kinds: tuple[str, ...], into: Path | None, vendor: str | None) -> None:
    """Write a complete plugin package: distribution NAME, with a small working component of each KIND.

    It can be installed and tested as it is, and its components be named in configs. Then put your own code in the place of
    what is in `model.py`, and its fields into `config.py`. A decoder comes with a search, a search with a decoder, a task
    with a preprocessor and an encoder.

    \b
    Examples: sonant new-plugin acme-speech
              sonant new-plugin acme-speech --kind decoder --kind loss
              sonant new-plugin speech --vendor acme --kind task --into work/speech
    """
    try:
        package = scaffold.plan(name, kinds or ("encoder",), vendor)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    folder = into or Path(name)
    for path in scaffold.write(package, folder):
        click.echo(path)
    where = shlex.quote(str(folder))
    kind, component = scaffold.components(package)[0]
    click.echo(
        f"\nNext: pip install -e {shlex.quote(f'{folder}[test]')}\n      pytest {where}\n      sonant describe {kind} {component}"
    )
