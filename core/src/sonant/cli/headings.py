"""Help of commands with many options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click


class CommandWithHeadings(click.Command):
    """A command whose help lists its options under headings.

    Args:
        headings: the names of the parameters that stand under each; what is named nowhere comes first, under "Options".
    """

    def __init__(self, *args: Any, headings: Mapping[str, Sequence[str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.headings = headings

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the lists; click calls it."""
        named = {name for names in self.headings.values() for name in names}
        parameters = [p for p in self.get_params(ctx) if isinstance(p, click.Option)]
        first = [p.name or "" for p in parameters if p.name not in named]
        for heading, names in {"Options": first, **self.headings}.items():
            records = [record for p in parameters if p.name in names and (record := p.get_help_record(ctx)) is not None]
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)
