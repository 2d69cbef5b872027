"""Commands that say what a config can name: `components` and `describe`."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator
from typing import Any

import attrs
import click

from sonant import config, plugins, registry
from sonant.cli import printing
from sonant.spec import KINDS, no_kind


@click.command("components")
@click.argument("kind", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print machine-readable output.")
def components_command(kind: str | None, as_json: bool) -> None:
    """List the components that a config can name, of one KIND or of all."""
    if kind is not None and kind not in KINDS:
        raise click.ClickException(no_kind(kind))
    rows = [r for r in registry.current() if kind in (None, r.spec.kind)]
    if as_json:
        printing.as_json([_facts(r) for r in rows])
    elif not rows:
        click.echo(f"No {kind or 'component'} is installed. {plugins.mention_failed(plugins.installed())}".rstrip(), err=True)
    else:
        printing.table([(r.spec.kind, r.spec.name, r.plugin.distribution, _doc(r)) for r in rows])


def _facts(component: registry.Registered) -> dict[str, Any]:
    spec = component.spec
    facts = {"kind": spec.kind, "name": spec.name, "plugin": component.plugin.label, "doc": spec.doc}
    return facts | ({"deprecated": spec.deprecated} if spec.deprecated else {})


def _doc(component: registry.Registered) -> str:
    spec = component.spec
    return f"{spec.doc} Deprecated: {spec.deprecated}." if spec.deprecated else spec.doc


@click.command("describe")
@click.argument("kind")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print machine-readable output.")
def describe_command(kind: str, name: str, as_json: bool) -> None:
    """Show the fields of a component's config: type, default, meaning."""
    component = registry.current().get(kind, name)
    fields = list(_fields(config.config_class(component)))
    spec = component.spec
    parts: list[dict[str, Any]] = [{"key": p.key, "kind": p.kind, "required": p.required, "help": p.help} for p in spec.parts]
    if as_json:
        printing.as_json(_facts(component) | {"fields": fields, "parts": parts})
        return
    click.echo(f"{spec.kind} {spec.name} ({component.plugin.label})\n{_doc(component)}\n")
    if spec.nemo and spec.nemo.targets:
        click.echo(f"Stands for NeMo's {', '.join(spec.nemo.targets)}\n")
    if spec.stands_for("huggingface"):
        click.echo(f"Stands for Hugging Face's {', '.join(spec.stands_for('huggingface'))}\n")
    if fields:
        printing.table(
            [("field", "type", "default", "meaning"), *((f["name"], f["type"], f["default"], f["help"]) for f in fields)]
        )
    else:
        click.echo("No fields.")
    if parts:
        click.echo("\nParts of its config:")
        printing.table([(p["key"], p["kind"] + ("" if p["required"] else " (optional)"), p["help"]) for p in parts])


def _fields(cls: type, above: str = "") -> Iterator[dict[str, str]]:
    """The fields of a config class, and below each field that is a section, or a list of them, those of the section."""
    hints = typing.get_type_hints(cls)
    for f in attrs.fields(cls):
        yield {
            "name": f"{above}{f.name}",
            "type": str(f.type).replace("typing.", "").removeprefix("<class '").removesuffix("'>"),
            "default": _default(f),
            "help": f.metadata.get("help", ""),
        }
        hint = hints[f.name]
        for inner in (hint, *typing.get_args(hint)):
            if isinstance(inner, type) and attrs.has(inner):
                yield from _fields(inner, f"{above}{f.name}{'[]' if typing.get_origin(hint) is list else ''}.")


def _default(field: Any) -> str:
    if field.default is attrs.NOTHING:
        return "required"
    if isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]
        if field.default.takes_self:
            return "computed"
        value = field.default.factory()
        return "see below" if attrs.has(type(value)) else json.dumps(config.plain(None, None, value), default=str)
    return json.dumps(config.plain(None, None, field.default), default=str)
