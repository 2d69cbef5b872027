"""Entry point of the `sonant` command."""

from __future__ import annotations

import errno
import logging
import sys
from typing import Any

import click

import sonant
from sonant.cli import printing
from sonant.cli.bench import bench_command
from sonant.cli.components import components_command, describe_command
from sonant.cli.config import config_group
from sonant.cli.export import export_command
from sonant.cli.inspect import inspect_command
from sonant.cli.models import convert_command, models_command
from sonant.cli.new_plugin import new_plugin_command
from sonant.cli.plugins import plugins_command
from sonant.errors import SonantError

COMMANDS = [
    bench_command,
    components_command,
    config_group,
    convert_command,
    describe_command,
    export_command,
    inspect_command,
    models_command,
    new_plugin_command,
    plugins_command,
]
"""The core's own; those of plugins come when a command is looked for."""


class App(click.Group):
    """The command group: the core's commands, then those of the installed plugins."""

    _plugins_added = False

    def _add_plugin_commands(self) -> None:
        if self._plugins_added:
            return
        self._plugins_added = True
        from sonant import plugins

        for plugin in plugins.installed():
            if plugin.commands is None:
                continue
            before = dict(self.commands)
            try:
                plugin.commands(app=self)
            except (Exception, SystemExit) as error:
                click.echo(f"sonant: the commands of {plugin.label} cannot be added: {error!r}", err=True)
            for name, command in before.items():
                if self.commands.get(name) is not command:
                    click.echo(f"sonant: {plugin.label} adds a command {name!r} that is taken; it is left out", err=True)
                    self.commands[name] = command

    def list_commands(self, ctx: click.Context) -> list[str]:
        self._add_plugin_commands()
        return super().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command = super().get_command(ctx, cmd_name)
        if command is None:
            self._add_plugin_commands()
            command = super().get_command(ctx, cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SonantError as error:
            if ctx.params.get("verbose"):
                raise
            text = "\n".join(map(printing.shown, str(error).split("\n")))  # it may quote a stranger's file
            raise click.ClickException(text) from error
        except OSError as error:  # a disk that is full, a folder that is not ours
            if ctx.params.get("verbose") or error.errno == errno.EPIPE:
                raise
            raise click.ClickException(str(error)) from error

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from sonant import plugins

            note = plugins.mention_failed(plugins.installed())
            if not note:
                raise
            raise click.UsageError(f"{error.message} {note}", error.ctx) from error


@click.group(cls=App, commands=COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(sonant.__version__, prog_name="sonant")
@click.option("-v", "--verbose", is_flag=True, help="Say more on standard error, and show tracebacks of errors.")
def app(verbose: bool) -> None:
    """Speech AI from named components.

    \b
    A first transcript:       sonant transcribe talk.wav --model parakeet-tdt-0.6b-v2
    What is installed:        sonant plugins
    What a config can name:   sonant components encoder
    Fields of a component:    sonant describe encoder fastconformer
    """
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="sonant: %(message)s", stream=sys.stderr, force=True
    )
    for noisy in ("httpx", "httpx2", "huggingface_hub", "filelock"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("huggingface_hub").propagate = False  # it has a handler of its own, and would say everything twice


def main() -> None:
    """Run the command line."""
    app()
