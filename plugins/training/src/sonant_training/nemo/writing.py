"""A converted config as a file, with what is to be known of it at the top."""

from __future__ import annotations

import textwrap

import yaml

from sonant_training.nemo.converting import Conversion


def to_yaml(conversion: Conversion, source: str) -> str:
    """The config as YAML; comments say where it came from, what is to be filled in and what is otherwise than there."""
    lines = [f"Converted from {source}, a training config of NeMo.", *summary(conversion)]
    comment = "".join(f"# {line}\n" for line in lines)
    text = yaml.safe_dump(conversion.config, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)
    return f"{comment}\n{text}"


def summary(conversion: Conversion) -> list[str]:
    """What became of the source, in lines: what people have to do, what they should know, and what does not matter."""
    report = conversion.report
    lines = ["To be filled in:", *(f"  {path}" for path in report.open)] if report.open else []
    lines += ["Otherwise than in NeMo:", *(f"  {_line(text)}" for text in report.changed)] if report.changed else []
    if report.unused:
        text = f"Left out, without effect: {_line(', '.join(report.unused))}"
        lines += textwrap.wrap(text, 110, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return lines


def _line(text: str) -> str:
    """In one line, of characters that a terminal shows."""
    return "".join(c if c.isprintable() else " " for c in text)
