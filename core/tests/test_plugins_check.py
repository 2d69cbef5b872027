"""`sonant plugins`: what it lists, and the report of `--check`."""

from __future__ import annotations

import io
import json
import re
import sys

import pytest

from sonant import plugins
from sonant.cli import checking
from sonant.testing import contract

DISTRIBUTIONS = "good-parts,good-kinds,broken-tasks,slow-plugin"
SAID = "and it says so"  # printed by one of them while it is tried


pytestmark = pytest.mark.usefixtures("contract_plugins")


@pytest.fixture
def acme(install, monkeypatch):
    """A plugin that does not load."""
    monkeypatch.setenv("SONANT_PLUGINS", "acme-speech,slow-plugin")
    install("acme-speech", "import acme_is_not_there")


@pytest.mark.parametrize(("distribution", "status"), [("slow-plugin", 1), ("broken-tasks", 1), ("good-kinds", 0)])
def test_json_has_every_check(command, distribution, status):
    result = command("plugins", "--check", "--json", distribution, status=status)
    assert (SAID in result.stderr) == (distribution == "broken-tasks")
    reports = json.loads(result.stdout)["checks"]
    assert [r["check"] for r in reports] == [check.label for check in contract.checks(distribution)]
    assert any(r["outcome"] == "failed" for r in reports) == bool(status)
    for report in reports:
        assert report.keys() == {"check", "distribution", "subject", "name", "promise", "outcome", "detail", "seconds"}
        assert report["check"] == f"{report['subject']}: {report['name']}"
        assert report["distribution"] == distribution
        assert 0 <= report["seconds"] < 60


def test_passed_checks_are_counted_and_the_others_spelled_out(command):
    lines = command("plugins", "--check", "broken-tasks", status=1).stdout.splitlines()
    total = {}
    for check in contract.checks("broken-tasks"):
        total[check.subject] = total.get(check.subject, 0) + 1
    assert re.fullmatch(rf"plugin broken-tasks: {total['plugin broken-tasks']} passed; import time \d+ ms", lines[2])
    at = lines.index(f"task broken/loses_one: {total['task broken/loses_one'] - 4} passed, 1 failed, 3 skipped")
    assert lines[at + 1] == "  failed   infers: 3 recordings gave 2 results"
    assert lines[at + 2] == "           promised: `infer` gives one result for each recording of a batch."
    at = lines.index(f"task broken/cannot_be_built: {total['task broken/cannot_be_built'] - 8} passed, 1 failed, 7 skipped")
    needing = ("constructor leaves all else alone", "infers", "batch invariance", "saved and opened", "trains", "scores")
    skipped = ", ".join((*needing, "leaves its arguments alone"))
    assert lines[at + 3] == f"  skipped  {skipped}: does not build"
    assert not any(line.startswith("  passed") for line in lines)
    assert re.fullmatch(rf"{sum(total.values()) - 36} passed, 13 failed, 23 skipped in \d+\.\d s", lines[-2])
    assert lines[-1] == 'pytest shows where a check fails: test_contract = sonant.testing.contract.suite("broken-tasks")'


def test_many_failures_are_named_again_at_the_end(command):
    lines = command("plugins", "--check", "Slow_Plugin", "broken.tasks", status=1).stdout.splitlines()
    at = lines.index("failed:")
    assert lines[at + 1 : at + 16] == [
        "  task broken/loses_one: infers",
        "  task broken/draws_anew: saved and opened",
        "  task broken/cannot_be_built: builds",
        "  task broken/lacks_a_part: builds",
        "  task broken/hears_padding: batch invariance",
        "  task broken/writes_samples: leaves its arguments alone",
        "  task broken/lacks_a_score: trains",
        "  task broken/lacks_a_score: scores",
        "  task broken/names_it_otherwise: trains",
        "  task broken/learns_nothing: trains",
        "  task broken/one_loss_for_each: trains",
        "  task broken/scores_one: scores",
        "  task broken/counts_nothing: scores",
        "  plugin slow-plugin: import time",
        "",
    ]


def test_all_lists_the_passed_checks(command):
    lines = command("plugins", "--check", "--all", "broken-tasks", status=1).stdout.splitlines()
    listed = [line for line in lines if line.startswith("  passed   ")]
    assert "  passed   saved and opened" in listed
    assert any(re.fullmatch(r"  passed   import time: \d+ ms", line) for line in listed)
    assert lines[-2].startswith(f"{len(listed)} passed, 13 failed")


def test_all_needs_check(command):
    assert "--all lists checks" in command("plugins", "--all", status=2).stderr


def test_a_plugin_that_does_not_load_is_reported_and_the_others_are_checked(command, acme):
    result = command("plugins", "--check", status=1)
    lines = result.stdout.splitlines()
    at = lines.index("plugin acme-speech: 1 failed")
    assert lines[at + 1] == "  failed   loads: ModuleNotFoundError: No module named 'acme_is_not_there'"
    assert lines[at + 2] == "           The traceback: sonant plugins --traceback acme-speech"
    assert any(line.startswith("plugin slow-plugin: ") for line in lines)
    assert 'suite("slow-plugin")' in lines[-1]
    assert "import acme_is_not_there" in command("plugins", "--traceback", "ACME_speech", status=1).stdout


def test_json_of_a_plugin_that_does_not_load(command, acme):
    found = json.loads(command("plugins", "--check", "--json", "acme-speech", status=1).stdout)
    (report,) = found["checks"]
    assert (report["check"], report["outcome"]) == ("plugin acme-speech: loads", "failed")
    assert "acme_is_not_there" in report["detail"]
    assert found["plugins"][0]["error"] == "ModuleNotFoundError: No module named 'acme_is_not_there'"


def test_a_plugin_that_is_not_installed(command):
    error = command.error("plugins", "--check", "acme", "Broken_Tasks")
    assert error == "no plugin called acme is installed. `sonant plugins` lists those that are there"


def test_notes_are_printed(command, install, tmp_path, monkeypatch):
    monkeypatch.setenv("SONANT_PLUGINS", "acme-speech")
    info = install("acme-speech", "SONANT_API = 1")
    copy = tmp_path / "elsewhere" / info.name
    copy.mkdir(parents=True)
    (copy / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-speech\nVersion: 0.0\n", "utf-8")
    monkeypatch.setattr(sys, "path", [*sys.path, str(copy.parent)])
    plugins.refresh()
    (note,) = json.loads(command("plugins", "--json").stdout)["plugins"][0]["notes"]
    assert str(copy.parent) in note
    assert f"note: acme-speech 0.1: {note}" in command("plugins").stdout.splitlines()


class Terminal(io.StringIO):
    """Standard error that is a terminal."""

    def isatty(self):
        return True


def test_a_terminal_shows_how_far_it_is(monkeypatch, command):
    assert command("plugins", "--check", "slow-plugin", status=1).stderr == ""
    monkeypatch.setattr(sys, "stderr", Terminal())
    (plugin,) = (p for p in plugins.installed() if p.distribution == "slow-plugin")
    count = len(list(checking.run([plugin])))
    assert f"/{count} [" in sys.stderr.getvalue()
