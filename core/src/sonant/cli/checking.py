"""The contract suite on the command line: results as they come, subject by subject, and a summary to act on."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import click
from attrs import asdict, frozen

from sonant.cli import printing
from sonant.plugins import Plugin

_MANY = 3  # failures after which their names are repeated at the end


@frozen
class Result:
    """What became of one check. `detail` is a remark, the fault, or why it does not apply."""

    distribution: str
    subject: str
    name: str
    promise: str
    outcome: str
    detail: str
    seconds: float

    @property
    def label(self) -> str:
        """`encoder fastconformer: padding invariance`"""
        return f"{self.subject}: {self.name}"

    def facts(self) -> dict[str, Any]:
        """For programs."""
        return {"check": self.label} | asdict(self) | {"seconds": round(self.seconds, 4)}


def run(found: Sequence[Plugin]) -> Iterator[Result]:
    """The checks of plugins, one after another; a bar shows how far it is, on a terminal only."""
    from tqdm import tqdm

    from sonant.testing import contract

    jobs = [(plugin, check) for plugin in found for check in ([None] if plugin.error else contract.checks_of(plugin))]
    with tqdm(total=len(jobs), disable=None, leave=False, file=sys.stderr, unit="check") as bar:
        for plugin, check in jobs:
            if check is None:
                result = _not_loaded(plugin)
            else:
                bar.set_postfix_str(check.label)
                start = time.perf_counter()
                outcome, detail = contract.run(check)
                seconds = time.perf_counter() - start
                result = Result(plugin.distribution, check.subject, check.name, check.promise, outcome, detail, seconds)
            bar.clear()  # what is printed next starts in an empty line
            yield result
            bar.update()


def _not_loaded(plugin: Plugin) -> Result:
    name = plugin.distribution
    detail = f"{plugin.error}\nThe traceback: sonant plugins --traceback {name}"
    return Result(name, f"plugin {name}", "loads", "The plugin's module imports.", "failed", detail, plugin.seconds)


def report(found: Sequence[Plugin], *, every: bool) -> list[Result]:
    """Run the checks of plugins and print what became of them; with `every`, of the passed ones too."""
    start = time.perf_counter()
    results: list[Result] = []
    for subject, group in groupby(_collected(found, results), key=lambda result: result.subject):
        of_subject = list(group)
        click.echo(f"{subject}: {_counts(of_subject)}{_remarks(of_subject)}")
        for result in of_subject:
            if result.outcome == "failed" or (every and result.outcome == "passed"):
                _print(result)
        _print_skipped(of_subject)
    _summarize(found, results, time.perf_counter() - start)
    return results


def _collected(found: Sequence[Plugin], into: list[Result]) -> Iterator[Result]:
    for result in run(found):
        into.append(result)
        yield result


def _counts(results: Sequence[Result]) -> str:
    counts = Counter(result.outcome for result in results)
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped") if counts[outcome])


def _remarks(results: Sequence[Result]) -> str:
    """`; import time 3 ms`"""
    return "".join(f"; {r.name} {r.detail}" for r in results if r.outcome == "passed" and r.detail)


def _print_skipped(results: Sequence[Result]) -> None:
    """A line for each reason."""
    by_reason: dict[str, list[str]] = {}
    for result in results:
        if result.outcome == "skipped":
            by_reason.setdefault(result.detail, []).append(result.name)
    for reason, names in by_reason.items():
        click.echo(f"  skipped  {', '.join(names)}: {printing.shown(reason)}")


def _print(result: Result) -> None:
    lines = [printing.shown(line) for line in result.detail.splitlines()]
    first, *rest = lines or [""]
    click.echo(f"  {result.outcome:7}  {result.name}" + (f": {first}" if first else ""))
    for line in rest:
        click.echo(f"           {line}")
    if result.outcome == "failed":
        click.echo(f"           promised: {result.promise}")


def _summarize(found: Sequence[Plugin], results: Sequence[Result], seconds: float) -> None:
    failed = [result for result in results if result.outcome == "failed"]
    if len(failed) > _MANY:
        click.echo("\nfailed:")
        for result in failed:
            click.echo(f"  {result.label}")
    click.echo(f"\n{_counts(results)} in {seconds:.1f} s")
    loaded = {plugin.distribution for plugin in found if not plugin.error}
    names = [result.distribution for result in failed if result.distribution in loaded]
    if names:
        click.echo(
            f"pytest shows where a check fails: test_contract = sonant.testing.contract.suite({names[0]!r})".replace("'", '"')
        )
