"""The contract kit: what keeps its promises passes, and whatever breaks one fails there and only there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict

import pytest
import torch

from contract_cases import (
    BROKEN,
    BROKEN_KERNELS,
    BROKEN_KINDS,
    BROKEN_PLUGINS,
    DATA,
    SKIPPED,
    assert_fails,
    by_subject,
    outcomes,
    skipped_only,
)
from sonant import ComponentSpec
from sonant.errors import PluginError, UnknownName
from sonant.spec import KINDS
from sonant.testing import contract

DISTRIBUTIONS = "good-parts,broken-parts,broken-tasks"


pytestmark = pytest.mark.usefixtures("contract_plugins")


@pytest.fixture
def broken():
    """The checks of everything that is broken, by what they are about."""
    return by_subject(DISTRIBUTIONS.split(",")[1:])


def test_good_components_keep_every_promise():
    assert skipped_only("good-parts") == SKIPPED


@pytest.mark.filterwarnings("ignore:Class `Indulgent` subclasses `Dict`")
@pytest.mark.parametrize("subject", BROKEN)
def test_a_broken_promise_fails_there_and_only_there(broken, subject):
    assert_fails(broken[subject], BROKEN[subject])


def test_each_check_fails_for_something():
    shown = {(subject.partition(" ")[0], name) for subject, faults in (BROKEN | BROKEN_KINDS).items() for name in faults}
    shown |= {("plugin", name) for faults in BROKEN_PLUGINS.values() for name in faults}
    shown |= {("kernel", name) for faults in BROKEN_KERNELS.values() for name in faults}
    used = {"plugin": contract.EVERY_PLUGIN, "kernel": contract.EVERY_KERNEL}
    used |= {kind: (*contract.EVERY_KIND, *contract.BY_KIND[kind]) for kind in KINDS}
    places = defaultdict(set)
    for kind, promises in used.items():
        for promise in promises:
            places[promise].add((kind, promise.__name__.replace("_", " ")))
    assert len(places) > 60
    assert [promise for promise, where in places.items() if not where & shown] == []


def test_each_check_says_what_it_promises(broken):
    checks = [check for found in broken.values() for check in found]
    assert len(checks) > 300
    assert all(check.promise.endswith(".") for check in checks)


@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        ("encoder broken/tiny_does_not_fill", "its tiny config does not fill"),
        ("encoder broken/config_raises", "its tiny config does not fill"),
        ("encoder broken/raises", "does not build"),
        ("encoder broken/exits", "does not build"),
        ("encoder broken/no_subsampling", "its attributes are not usable"),
    ],
)
def test_one_fault_is_reported_once(broken, subject, reason):
    skipped = outcomes(broken[subject], "skipped")
    assert len(skipped) >= 10
    assert set(skipped.values()) == {reason}


def test_a_check_puts_back_what_a_component_changes(broken):
    before = os.getcwd(), dict(os.environ), torch.get_default_dtype(), torch.get_rng_state()
    for subject in ("writes_environment", "changes_folder", "changes_dtype", "seeds"):
        for check in broken[f"encoder broken/{subject}"]:
            contract.run(check)
    assert (os.getcwd(), dict(os.environ), torch.get_default_dtype()) == before[:3]
    assert torch.get_rng_state().equal(before[3])


def test_the_cost_of_the_import_is_reported():
    check = next(c for c in contract.checks("good-parts") if c.name == "import time")
    outcome, detail = contract.run(check)
    assert outcome == "passed"
    assert detail.endswith(" ms")


def test_the_suite_is_one_test_with_a_case_for_each_check():
    test = contract.suite("Broken_Tasks")  # names of distributions are compared as pip does
    (mark,) = test.pytestmark
    (checks,) = mark.args[1:]
    cases = {mark.kwargs["ids"](check): check for check in checks}
    assert list(cases) == [check.label for check in contract.checks("broken-tasks")]
    test(check=cases["task broken/loses_one: builds"])
    with pytest.raises(AssertionError, match="3 recordings gave 2"):
        test(check=cases["task broken/loses_one: infers"])
    with pytest.raises(pytest.skip.Exception, match="does not build"):
        test(check=cases["task broken/cannot_be_built: infers"])


def test_a_plugin_that_is_not_installed():
    with pytest.raises(UnknownName, match=r"no installed plugin is called 'acme'; installed: broken-parts, .*pip install"):
        contract.suite("acme")


def test_a_plugin_that_does_not_load(install, monkeypatch):
    monkeypatch.setenv("SONANT_PLUGINS", "acme")
    install("acme", "import acme_is_not_there")
    with pytest.raises(PluginError, match=r"acme 0\.1 failed to load: .*acme_is_not_there"):
        contract.checks("acme")


def test_the_kit_needs_no_pytest():
    code = """
import sys
sys.modules["pytest"] = None
from sonant.testing import contract
found = {c.label: contract.run(c)[0] for c in contract.checks("broken-tasks")}
print(found["task broken/loses_one: infers"], found["task broken/loses_one: builds"])
"""
    env = os.environ | {"PYTHONPATH": str(DATA), "SONANT_PLUGINS": DISTRIBUTIONS}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["failed", "passed"]


def test_tiny_files_names_a_function():
    spec = {"kind": "tokenizer", "name": "words", "target": "a.b:C", "config": "a.b:D", "doc": "Words."}
    with pytest.raises(ValueError, match=r"tiny_files 'words\.txt' is not of the form 'package.module:attribute'"):
        ComponentSpec(**spec, tiny_files="words.txt")
    assert ComponentSpec(**spec, tiny_files="a.b:files").tiny_files == "a.b:files"
