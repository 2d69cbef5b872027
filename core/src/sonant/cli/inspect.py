"""Commands that look and do not build: `plugins`, `components`, `models`, `describe`."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Sequence
from typing import Any

import attrs
import click

from sonant import cards, config, plugins, registry
from sonant.spec import KINDS


def add_to(app: click.Group) -> None:
    """Register these commands."""
    for command in (plugins_command, components_command, models_command, describe_command):
        app.add_command(command)


def _table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


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
        _json(
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
    _table(rows)
    for plugin in found:
        if plugin.error and traceback:
            click.echo(f"\n{plugin.label}:\n{plugin.traceback.rstrip()}")
    if any(p.error for p in found) and not traceback:
        click.echo("\nTracebacks: sonant plugins --traceback")
    for conflict in conflicts:
        click.echo(f"conflict: {conflict}")
    for report in reports:
        click.echo(f"{report['outcome']:8}{report['check']}" + (f": {report['detail']}" if report["detail"] else ""))


@click.command("components")
@click.argument("kind", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print machine-readable output.")
def components_command(kind: str | None, as_json: bool) -> None:
    """List the components that a config can name, of one KIND or of all."""
    if kind is not None and kind not in KINDS:
        close = difflib.get_close_matches(kind, KINDS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise click.ClickException(f"no kind named {kind!r}.{hint} The kinds are {', '.join(KINDS)}")
    rows = [r for r in registry.current() if kind in (None, r.spec.kind)]
    if as_json:
        _json([{"kind": r.spec.kind, "name": r.spec.name, "plugin": r.plugin.label, "doc": r.spec.doc} for r in rows])
    else:
        _table([(r.spec.kind, r.spec.name, r.plugin.distribution, r.spec.doc) for r in rows])


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
        _json([attrs.asdict(card) for card in found])
    else:
        _table([(c.name, c.task, ",".join(c.languages), c.parameters or "", c.license or "", c.summary) for c in found])


@click.command("describe")
@click.argument("kind")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print machine-readable output.")
def describe_command(kind: str, name: str, as_json: bool) -> None:
    """Show the fields of a component's config: type, default, meaning."""
    component = registry.current().get(kind, name)
    fields: list[dict[str, str]] = [
        {
            "name": f.name,
            "type": str(f.type).replace("typing.", "").removeprefix("<class '").removesuffix("'>"),
            "default": _default(f),
            "help": f.metadata.get("help", ""),
        }
        for f in attrs.fields(config.config_class(component))
    ]
    spec = component.spec
    parts: list[dict[str, Any]] = [{"key": p.key, "kind": p.kind, "required": p.required, "help": p.help} for p in spec.parts]
    if as_json:
        _json(
            {
                "kind": spec.kind,
                "name": spec.name,
                "plugin": component.plugin.label,
                "doc": spec.doc,
                "fields": fields,
                "parts": parts,
            }
        )
        return
    click.echo(f"{spec.kind} {spec.name} ({component.plugin.label})\n{spec.doc}\n")
    if spec.nemo and spec.nemo.targets:
        click.echo(f"Stands for NeMo's {', '.join(spec.nemo.targets)}\n")
    if fields:
        _table([("field", "type", "default", "meaning"), *((f["name"], f["type"], f["default"], f["help"]) for f in fields)])
    else:
        click.echo("No fields.")
    if parts:
        click.echo("\nParts of its config:")
        _table([(p["key"], p["kind"] + ("" if p["required"] else " (optional)"), p["help"]) for p in parts])


def _default(field: Any) -> str:
    if field.default is attrs.NOTHING:
        return "required"
    if isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]
        return json.dumps(config.plain(None, None, field.default.factory()), default=str)
    return json.dumps(config.plain(None, None, field.default), default=str)
