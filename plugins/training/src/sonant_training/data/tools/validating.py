"""What `sonant data validate` does: every row of some manifests checked, counted, and written to a manifest without those that
are wrong."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from attrs import evolve, field, mutable
from tqdm import tqdm

from sonant.results import dumps
from sonant_training.data.tools import rows
from sonant_training.data.tools.findings import PROBLEMS, Checked, Finding, Limits, check, is_misstated
from sonant_training.data.tools.rows import Row
from sonant_training.data.tools.threads import in_order


@mutable
class Report:
    """What was found in manifests: counts, and every row with a problem. `fine` rows have none but those that are kept."""

    manifests: tuple[str, ...]
    kept: frozenset[str] = frozenset()
    rows: int = 0
    seconds: float = 0.0
    fine: int = 0
    fine_seconds: float = 0.0
    problems: Counter[str] = field(factory=Counter)
    problem_seconds: dict[str, float] = field(factory=lambda: dict.fromkeys(PROBLEMS, 0.0))
    sample_rates: Counter[int] = field(factory=Counter)
    channels: Counter[int] = field(factory=Counter)
    found: list[Checked] = field(factory=list)

    def add(self, checked: Checked) -> None:
        """Count a row."""
        sound = checked.sound
        seconds = 0.0 if sound is None else sound.seconds
        self.rows += 1
        self.seconds += seconds
        if sound is not None:
            self.sample_rates[sound.sample_rate] += 1
            self.channels[sound.channels] += 1
        for problem in {finding.problem for finding in checked.findings}:
            self.problems[problem] += 1
            self.problem_seconds[problem] += seconds
        if self.is_fine(checked):
            self.fine += 1
            self.fine_seconds += seconds
        if checked.findings:
            self.found.append(checked)

    def is_fine(self, checked: Checked) -> bool:
        """Whether a cleaned manifest has it."""
        return all(finding.problem in self.kept for finding in checked.findings)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; the findings come last."""
        return {
            "manifests": list(self.manifests),
            "rows": self.rows,
            "seconds": round(self.seconds, 3),
            "fine": self.fine,
            "fine_seconds": round(self.fine_seconds, 3),
            "problems": {name: self.problems[name] for name in PROBLEMS if self.problems[name]},
            "kept": sorted(self.kept),
            "sample_rates": {str(rate): count for rate, count in sorted(self.sample_rates.items())},
            "channels": {str(number): count for number, count in sorted(self.channels.items())},
            "findings": [_finding(checked) for checked in self.found],
        }


def _finding(checked: Checked) -> dict[str, Any]:
    row = checked.row
    return {
        "manifest": str(row.manifest),
        "line": row.line,
        "audio_filepath": row.name,
        "text": row.text,
        "problems": [{"problem": finding.problem, "detail": finding.detail} for finding in checked.findings],
    }


def validate(
    manifests: Sequence[Path],
    *,
    limits: Limits | None = None,
    keep: Set[str] = frozenset(),
    output: Path | None = None,
    workers: int | None = None,
) -> Report:
    """Check all rows of manifests, in order; what is the same in several of them is a duplicate, too.

    Args:
        manifests: JSONL files.
        limits: from where on something is a problem.
        keep: problems, by name, that do not make a row wrong.
        output: where the rows go that are fine. They are as they were, but for paths, which are relative to this file if
            they were relative before, and durations that are missing or wrong.
        workers: threads; None takes one for each CPU that this process may use.

    Raises:
        ConfigError: a manifest cannot be read or has no rows.
    """
    limits = limits or Limits()
    report = Report(tuple(map(str, manifests)), frozenset(keep))
    first: dict[bytes, Row] = {}
    with _appearing(output) as stream:
        for checked in _checked(manifests, limits, workers):
            checked = _with_duplicate(checked, first, report)
            report.add(checked)
            if stream is not None and output is not None and report.is_fine(checked):
                stream.write(dumps(_cleaned(checked, output, limits)) + "\n")
    return report


def _checked(manifests: Sequence[Path], limits: Limits, workers: int | None) -> Iterator[Checked]:
    found = in_order(partial(check, limits=limits), rows.read(manifests), workers)
    return iter(tqdm(found, total=rows.count(manifests), unit="row", disable=None))


def _with_duplicate(checked: Checked, first: dict[bytes, Row], report: Report) -> Checked:
    """Of rows with the same audio, the first that is fine otherwise stays so. Silence is not the same as other silence."""
    sound = checked.sound
    if sound is None or any(finding.problem == "silent" for finding in checked.findings):
        return checked
    earlier = first.get(sound.digest)
    if earlier is None:
        if report.is_fine(checked):
            first[sound.digest] = checked.row
        return checked
    text = "" if earlier.text == checked.row.text else f", which has another text: {earlier.text!r}"
    return evolve(checked, findings=(*checked.findings, Finding("duplicate", f"the audio of {earlier.where}{text}")))


def _cleaned(checked: Checked, output: Path, limits: Limits) -> dict[str, Any]:
    row = checked.row
    values = dict(row.values)
    if not rows.located(row.name).is_absolute():
        values["audio_filepath"] = Path(os.path.relpath(row.path, output.parent)).as_posix()
    if checked.sound is not None and (row.duration is None or is_misstated(row, checked.sound, limits)):
        values["duration"] = round(checked.sound.seconds, 3)
    return values


@contextmanager
def _appearing(output: Path | None) -> Iterator[IO[str] | None]:
    """A file that is there when all is written, and else not."""
    if output is None:
        yield None
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    partial_file = output.with_name(f".{output.name}.{os.getpid()}.partial")
    try:
        with partial_file.open("w", encoding="utf-8") as stream:
            yield stream
        os.replace(partial_file, output)
    finally:
        partial_file.unlink(missing_ok=True)
