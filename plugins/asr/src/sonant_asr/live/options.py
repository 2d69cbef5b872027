"""The options of `sonant transcribe --live`, and those that do not go with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

_LIVE = (
    click.option(
        "--live",
        is_flag=True,
        help="Hear the microphone; with PATH - standard input; or a file at the pace at which it was spoken.",
    ),
    click.option(
        "--look-ahead",
        type=click.FloatRange(0),
        default=None,
        metavar="SECONDS",
        help="With --live: what the model may hear ahead, at most. More is slower to appear and better. Default: the model's.",
    ),
    click.option(
        "--microphone", default=None, metavar="NAME", help="With --live: which one, by name or number. Default: the system's."
    ),
)
_WHOLE_RECORDINGS_ONLY = ("timestamps", "batch_size", "batch_seconds", "chunking", "shard", "confidence", "n_best")


def live_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--live` and what belongs to it."""
    for option in reversed(_LIVE):
        command = option(command)
    return command


def check(context: click.Context) -> None:
    """Refuse options that would do nothing.

    Raises:
        click.UsageError: names the option.
    """
    is_live, paths = context.params["live"], context.params["paths"]
    if not is_live and not paths:
        raise click.UsageError("name a recording, a folder or a manifest; or --live for the microphone")
    if not is_live and "-" in paths:
        raise click.UsageError("- is standard input, which is heard with --live")
    if is_live and len(paths) > 1:
        raise click.UsageError(f"--live hears one source, and {len(paths)} are named")
    unfit = _given(context, _WHOLE_RECORDINGS_ONLY if is_live else ("look_ahead", "microphone"))
    if unfit:
        raise click.UsageError(f"{' and '.join(unfit)} cannot be used {'with' if is_live else 'without'} --live")


def _given(context: click.Context, names: Sequence[str]) -> list[str]:
    written = (click.core.ParameterSource.COMMANDLINE, click.core.ParameterSource.ENVIRONMENT)
    return [f"--{name.replace('_', '-')}" for name in names if context.get_parameter_source(name) in written]
