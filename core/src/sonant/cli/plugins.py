"""`sonant plugins`: what is installed, what is wrong with it, and the contract suite on demand."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

import click

from sonant import plugins, registry
from sonant.cli import checking, printing
from sonant.plugins import Plugin

_LONGEST_ERROR = 300  # characters of it in the list; `--traceback` has it whole


@click.command("plugins")
@click.option("--check", is_flag=True, help="Run the contract suite on every plugin and all it provides. Takes a while.")
@click.option("--all", "every", is_flag=True, help="With --check: list the passed checks too.")
@click.option("--json", "as_json", is_flag=True, help="Print machine-readable output.")
@click.option("--traceback", is_flag=True, help="Print the traceback of each plugin that failed to load.")
@click.argument("names", nargs=-1, metavar="[DISTRIBUTION]...")
def plugins_command(check: bool, every: bool, as_json: bool, traceback: bool, names: tuple[str, ...]) -> None:
    """List the installed plugins, and what is wrong with those that failed.

    Exit status 1 if a plugin failed to load, two claim one name, or a check fails.
    """
    if every and not check:
        raise click.UsageError("--all lists checks, and without --check none is run")
    found = _chosen(names)
    conflicts = [
        f"{claims[0].spec.kind} {claims[0].spec.name!r} is claimed by {' and '.join(c.plugin.label for c in claims)}"
        for claims in registry.current().conflicts()
        if any(claim.plugin in found for claim in claims)
    ]
    results: list[checking.Result] = []
    if as_json:
        results = list(checking.run(found)) if check else []
        printing.as_json(
            {"plugins": [_facts(p) for p in found], "conflicts": conflicts, "checks": [result.facts() for result in results]}
        )
    else:
        _print_plugins(found, conflicts, traceback)
        if check and found:
            click.echo()
            results = checking.report(found, every=every)
    failed = any(p.error for p in found) or bool(conflicts) or any(r.outcome == "failed" for r in results)
    sys.exit(1 if failed else 0)


def _chosen(names: Sequence[str]) -> list[Plugin]:
    """The plugins of these distributions, all if none is named; names compare as pip compares them."""
    wanted = {plugins.normalized(name): name for name in names}
    found = [p for p in plugins.installed() if not names or plugins.normalized(p.distribution) in wanted]
    unknown = [wanted[key] for key in sorted(wanted.keys() - {plugins.normalized(p.distribution) for p in found})]
    if unknown:
        raise click.ClickException(f"{plugins.unknown(unknown)}. `sonant plugins` lists those that are there")
    return found


def _facts(plugin: Plugin) -> dict[str, Any]:
    return {
        "distribution": plugin.distribution,
        "version": plugin.version,
        "module": plugin.module,
        "status": "failed" if plugin.error else "ok",
        "error": plugin.error or None,
        "notes": list(plugin.notes),
        "components": [f"{s.kind}/{s.name}" for s in plugin.components],
        "kernels": [f"{k.op}/{k.backend}" for k in plugin.kernels],
        "seconds": round(plugin.seconds, 4),
    }


def _print_plugins(found: Sequence[Plugin], conflicts: Sequence[str], traceback: bool) -> None:
    if not found and "SONANT_PLUGINS" in os.environ:
        click.echo(f"SONANT_PLUGINS={os.environ['SONANT_PLUGINS']!r} leaves out every plugin that is installed")
    elif not found:
        click.echo("No plugins are installed. Try: pip install sonant-asr sonant-encoders sonant-features")
    rows = []
    for plugin in found:
        state = "failed" if plugin.error else "ok"
        provides = ", ".join(f"{s.kind} {s.name}" for s in plugin.components) or "no components"
        rows.append((plugin.distribution, plugin.version, state, textwrap.shorten(plugin.error, _LONGEST_ERROR) or provides))
    printing.table(rows)
    for plugin in found:
        for note in plugin.notes:
            click.echo(f"note: {plugin.label}: {printing.shown(note)}")
    for conflict in conflicts:
        click.echo(f"conflict: {conflict}")
    for plugin in found:
        if plugin.error and traceback:
            click.echo(f"\n{plugin.label}:\n{plugin.traceback.rstrip()}")
    if any(p.error for p in found) and not traceback:
        click.echo("\nTracebacks: sonant plugins --traceback")
