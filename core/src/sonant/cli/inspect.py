"""`sonant inspect`: what a checkpoint or a config holds, without building or trusting it."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import click

from sonant.cli import printing

if TYPE_CHECKING:
    from sonant.inspection import Inspection, Stored


@click.command("inspect")
@click.argument("source")
@click.option("--config", "with_config", is_flag=True, help="Print the whole config, as it is stored.")
@click.option("--tensors", "with_tensors", is_flag=True, help="List every tensor: name, shape, type, size.")
@click.option(
    "--registry", type=click.Path(exists=True, dir_okay=False), default=None, help="A file of model cards beside the packaged."
)
@click.option("--json", "as_json", is_flag=True, help="Print all of it, machine-readable.")
def inspect_command(source: str, with_config: bool, with_tensors: bool, registry: str | None, as_json: bool) -> None:
    """Show what a model SOURCE holds: components, tensors, files, licence.

    SOURCE is whatever can be opened (a model folder of Sonant or Hugging Face, a .nemo file, a config file, a model's name),
    or a .safetensors file.
    Nothing is built and no code is run for it; plugins that it needs may be absent, and are named.

    \b
    Examples: sonant inspect model.nemo
              sonant inspect folder/ --tensors
              sonant inspect folder/ --config > model.yaml
    """
    from sonant.inspection import inspect

    found = inspect(source, registry=registry)
    if as_json:
        printing.as_json(_document(found))
    elif with_config:
        printing.as_yaml(dict(found.config))
    elif with_tensors:
        rows = [(t.name, "x".join(map(str, t.shape)) or "scalar", t.dtype, printing.size(t.bytes)) for t in found.tensors]
        printing.table([("tensor", "shape", "type", "size"), *rows])
    else:
        _summarize(found)


def _document(found: Inspection) -> dict[str, Any]:
    return {
        "path": str(found.path),
        "form": found.form,
        "bytes": found.bytes,
        "saved_by": found.saved_by or None,
        "license": found.license or None,
        "numbers": found.numbers,
        "components": [
            {"section": c.section, "name": c.name, "saved_with": c.source or None, "status": c.status} for c in found.components
        ],
        "tensors": [{"name": t.name, "shape": list(t.shape), "dtype": t.dtype, "bytes": t.bytes} for t in found.tensors],
        "files": dict(found.files),
        "config": dict(found.config),
    }


def _summarize(found: Inspection) -> None:
    saved = f", saved by {printing.shown(found.saved_by)}" if found.saved_by else ""
    click.echo(f"{found.path}: {found.form}, {printing.size(found.bytes)}{saved}")
    click.echo(f"licence: {printing.shown(found.license) or 'not stated'}")
    if found.components:
        saved_with = any(c.source for c in found.components)
        rows = [("section", "component", *(["saved with"] if saved_with else []), "here")]
        rows += [(c.section, c.name, *([c.source] if saved_with else []), c.status) for c in found.components]
        click.echo()
        printing.table(rows)
    if found.tensors:
        click.echo()
        printing.table([("part", "tensors", "numbers", "type", "size"), *_parts(found.tensors)])
    if found.files:
        click.echo()
        printing.table([("file", "size"), *((name, printing.size(count)) for name, count in found.files.items())])
    options = (["the whole config: --config"] if found.config else []) + (["each tensor: --tensors"] if found.tensors else [])
    click.echo("\n" + "; ".join(options))


def _parts(tensors: tuple[Stored, ...]) -> list[tuple[str, ...]]:
    """The tensors by the first word of their names, in the order in which they stand."""
    groups: dict[str, list[Stored]] = defaultdict(list)
    for tensor in tensors:
        groups[tensor.name.partition(".")[0]].append(tensor)
    rows: list[tuple[str, ...]] = [(part, *_sum(members)) for part, members in groups.items()]
    return [*rows, ("all", *_sum(list(tensors)))] if len(rows) > 1 else rows


def _sum(tensors: list[Stored]) -> tuple[str, str, str, str]:
    types = ", ".join(sorted({t.dtype for t in tensors}))
    return str(len(tensors)), f"{sum(t.numel for t in tensors):,}", types, printing.size(sum(t.bytes for t in tensors))
