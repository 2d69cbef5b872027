"""`sonant tokenizer`: making tokenizers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from sonant_training.tokenizing.training import Trained


@click.group("tokenizer")
def tokenizer_group() -> None:
    """Make a tokenizer from texts."""


@tokenizer_group.command("train")
@click.argument(
    "paths", nargs=-1, required=True, metavar="MANIFEST...", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "-o", "--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="The folder to write it into."
)
@click.option(
    "--type",
    type=click.Choice(["bpe", "unigram", "char"]),
    default="bpe",
    show_default=True,
    help="Subwords by merging pairs or by likelihood, or characters.",
)
@click.option(
    "--size", type=click.IntRange(1), default=None, help="Of the vocabulary. Default: 1024 subwords, or all characters."
)
@click.option("--lower-case", is_flag=True, help="Write lower case whatever the text is. Subwords only.")
@click.option(
    "--coverage",
    type=click.FloatRange(0.9, 1.0),
    default=1.0,
    show_default=True,
    help="Part of all characters that get a piece; 0.9995 for Chinese or Japanese. Subwords only.",
)
@click.option("--byte-fallback", is_flag=True, help="Write characters without a piece as bytes. Subwords only.")
@click.option("--split-digits", is_flag=True, help="Write numbers digit by digit. Subwords only.")
@click.option(
    "--symbol", "symbols", multiple=True, help="Never take this apart, as '<noise>'. May be given several times. Subwords only."
)
@click.option("--overwrite", is_flag=True, help="Replace a tokenizer that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print machine-readable output.")
def train_command(paths: tuple[Path, ...], output: Path, overwrite: bool, as_json: bool, **wish: Any) -> None:
    """Make a tokenizer from the texts of manifests, and print the section of a config that uses it.

    MANIFEST is a .jsonl file with a text on each line; any other file is plain text, a sentence on each line. Use those of the
    training set only. The folder gets tokenizer.yaml with the section, and tokenizer.model with the subwords.

    \b
    Examples:
      sonant tokenizer train train.jsonl -o tokenizer --size 512
      sonant tokenizer train train.jsonl -o characters --type char
    """
    from sonant.cli import printing
    from sonant.outputs import write_atomically
    from sonant_training.tokenizing import report, texts
    from sonant_training.tokenizing.training import MODEL, Wish, train

    section_file = output / "tokenizer.yaml"
    there = next((path for path in (section_file, output / MODEL) if path.exists()), None)
    if there is not None and not overwrite:
        raise click.ClickException(f"{there} is already there; pass --overwrite to replace it")
    read = texts.read(paths)
    trained = train(read, Wish(**wish))
    found = report.use(trained, read)
    output.mkdir(parents=True, exist_ok=True)
    if trained.model is None:
        (output / MODEL).unlink(missing_ok=True)  # of the tokenizer that is replaced
    else:
        _write(output / MODEL, trained.model)
    write_atomically(section_file, _yaml(trained.section))
    if as_json:
        printing.as_json({**found.to_dict(), "left_out": list(trained.left_out), "tokenizer": _used(trained, output)})
        return
    printing.table([("type", wish["type"]), *report.lines(found)])
    if trained.left_out:
        click.echo(f"left out: {printing.shown(' '.join(trained.left_out))}")
    click.echo("\nIn a config, whose folder the file is relative to:\n")
    click.echo(_yaml(_used(trained, output)).rstrip())


def _yaml(section: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump({"tokenizer": section}, allow_unicode=True, sort_keys=False, default_flow_style=None, width=110)


def _write(path: Path, content: bytes) -> None:
    """All of it or nothing."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _used(trained: Trained, output: Path) -> dict[str, Any]:
    """The section for a config in the current folder."""
    section = dict(trained.section)
    if "file" in section:
        section["file"] = (output / section["file"]).as_posix()
    return section
