"""`sonant plugins`: what is installed, what is wrong with it, and the contract suite on demand."""

from __future__ import annotations

import sys

import click

from sonant import plugins, registry
from sonant.cli import printing


@click.command("plugins")
@click.option("--check", is_flag=True, help="Run the contract suite on every component of every plugin. Takes a while.")
@click.option("--json", "as_json", is_flag=True, help="Print machine-readable output.")
@click.option("--traceback", is_flag=True, help="Print the traceback of each plugin that failed to load.")
@click.argument("names", nargs=-1, metavar="[DISTRIBUTION]...")
def plugins_command(check: bool, as_json: bool, traceback: bool, names: tuple[str, ...]) -> None:
    """List the installed plugins, and what is wrong with those that failed.

    Exit status 1 if a plugin failed to load, two claim one name, or a check fails.
    """
    found = [p for p in plugins.installed() if not names or p.distribution in names]
    unknown = sorted(set(names) - {p.distribution for p in found})
    if unknown:
        raise click.ClickException(f"no installed plugin is called {', '.join(unknown)}; `sonant plugins` lists them")
    conflicts = [
        f"{claims[0].spec.kind} {claims[0].spec.name!r} is claimed by {' and '.join(c.plugin.label for c in claims)}"
        for claims in registry.current().conflicts()
    ]
    reports = _run_checks([p.distribution for p in found if not p.error]) if check else []
    failed = any(p.error for p in found) or bool(conflicts) or any(r["outcome"] == "failed" for r in reports)
    if as_json:
        printing.as_json(
            {
                "plugins": [
                    {
                        "distribution": p.distribution,
                        "version": p.version,
                        "module": p.module,
                        "status": "failed" if p.error else "ok",
                        "error": p.error or None,
                        "components": [f"{s.kind}/{s.name}" for s in p.components],
                        "kernels": [f"{k.op}/{k.backend}" for k in p.kernels],
                        "seconds": round(p.seconds, 4),
                    }
                    for p in found
                ],
                "conflicts": conflicts,
                "checks": reports,
            }
        )
    else:
        _print_plugins(found, conflicts, reports, traceback)
    sys.exit(1 if failed else 0)


def _run_checks(distributions: list[str]) -> list[dict[str, str]]:
    from sonant.testing import contract

    reports = []
    for distribution in distributions:
        for check in contract.checks(distribution):
            outcome, detail = contract.run(check)
            reports.append({"check": check.label, "outcome": outcome, "detail": detail})
    return reports


def _print_plugins(found: list[plugins.Plugin], conflicts: list[str], reports: list[dict[str, str]], traceback: bool) -> None:
    if not found:
        click.echo("No plugins are installed. Try: pip install sonant-asr sonant-encoders sonant-features")
    rows = []
    for plugin in found:
        state = "failed" if plugin.error else "ok"
        provides = plugin.error or ", ".join(f"{s.kind} {s.name}" for s in plugin.components) or "no components"
        rows.append((plugin.distribution, plugin.version, state, provides))
    printing.table(rows)
    for plugin in found:
        if plugin.error and traceback:
            click.echo(f"\n{plugin.label}:\n{plugin.traceback.rstrip()}")
    if any(p.error for p in found) and not traceback:
        click.echo("\nTracebacks: sonant plugins --traceback")
    for conflict in conflicts:
        click.echo(f"conflict: {conflict}")
    for report in reports:
        click.echo(f"{report['outcome']:8}{report['check']}" + (f": {report['detail']}" if report["detail"] else ""))
