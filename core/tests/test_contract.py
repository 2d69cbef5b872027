"""The contract kit: what keeps its promises passes, and whatever breaks one fails there and only there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from sonant import ComponentSpec, plugins
from sonant.cli.plugins import plugins_command
from sonant.errors import PluginError, UnknownName
from sonant.spec import KINDS
from sonant.testing import contract

DATA = Path(__file__).parent / "data" / "contract"
DISTRIBUTIONS = "good-parts,broken-parts,broken-tasks,heavy-config,slow-plugin"

NO_FILE = "its spec has no tiny config, and file must be given"
NO_VOCODER = "no vocoder with a tiny config is installed to build it with"
NO_SPEAKERS = "its forward needs speakers, and the contract offers enc, lens, labels, label_lens"
NO_DECODER = "no installed decoder names it"
SKIPPED = {
    "encoder whole_mean": {"streaming equals offline": "does not stream"},
    "preprocessor blocks": {"gradients reach every parameter": "has no parameters to train"},
    "augmentation mask": {"gradients reach every parameter": "has no parameters to train"},
    "decoder asks_speakers": {
        "state dict round trip": NO_SPEAKERS,
        "loads from the meta device": NO_SPEAKERS,
        "deterministic in eval": NO_SPEAKERS,
        "finite in bfloat16": NO_SPEAKERS,
        "gradients reach every parameter": NO_SPEAKERS,
    },
    "search alone": {"hypotheses": NO_DECODER, "batch invariance": NO_DECODER, "empty utterances": NO_DECODER},
    "tokenizer unlisted": {
        "tiny config fills": NO_FILE,
        "config round trip": NO_FILE,
        "unknown key fails": NO_FILE,
        "builds": NO_FILE,
        "constructor leaves all else alone": NO_FILE,
        "attributes": NO_FILE,
        "vocabulary": NO_FILE,
        "text round trip": NO_FILE,
    },
    "task speak": {
        "builds": NO_VOCODER,
        "constructor leaves all else alone": NO_VOCODER,
        "infers": NO_VOCODER,
        "saved and opened": NO_VOCODER,
    },
}
"""What does not apply to some of the good components, and why; they pass all else."""

BROKEN = {
    "encoder broken/no_doc": {"documented": "empty doc"},
    "encoder broken/long_doc": {"documented": "several lines"},
    "encoder broken/config_can_change": {"config is frozen": "broken_parts.config:Loose is not frozen"},
    "encoder broken/field_without_help": {"fields have help": "no help for secret"},
    "encoder broken/tiny_does_not_fill": {"tiny config fills": "widht: unknown key. Did you mean 'width'"},
    "encoder broken/config_grows": {"config round trip": "width=9) became Changed(width=10)"},
    "encoder broken/config_is_no_yaml": {"config round trip": "cannot be written as YAML"},
    "encoder broken/takes_any_key": {"unknown key fails": "can't set attribute"},
    "encoder broken/raises": {"builds": "RuntimeError: no such luck (encoder.py:"},
    "encoder broken/writes_environment": {"constructor leaves all else alone": "changes os.environ"},
    "encoder broken/changes_folder": {"constructor leaves all else alone": "changes the working directory"},
    "encoder broken/changes_dtype": {"constructor leaves all else alone": "changes torch's default dtype"},
    "encoder broken/seeds": {"constructor leaves all else alone": "changes torch's seed"},
    "encoder broken/writes_config": {"constructor leaves all else alone": "writes into its config"},
    "encoder broken/forgets_a_number": {"state dict round trip": "not in there"},
    "encoder broken/forgets_a_table": {"loads from the meta device": "no values for gains"},
    "encoder broken/keeps_dropout": {
        "deterministic in eval": "given a second time, gives another result",
        "state dict round trip": "",
        "padding invariance": "",
        "batch order": "",
        "streaming equals offline": "",
    },
    "encoder broken/counts_calls": {"deterministic in eval": "writes into calls"},
    "encoder broken/loses_precision": {"finite in bfloat16": "not finite"},
    "encoder broken/refuses_float32": {"finite in bfloat16": "RuntimeError"},
    "encoder broken/unused_parameter": {"gradients reach every parameter": "no gradient reaches spare"},
    "encoder broken/detached_parameter": {"gradients reach every parameter": "enter.weight, enter.bias"},
    "encoder broken/no_subsampling": {"attributes": "subsampling is 2.0"},
    "encoder broken/wrong_width": {"shapes and lengths": "8 wide, and d_out says 9"},
    "encoder broken/int32_lengths": {"shapes and lengths": "torch.int32"},
    "encoder broken/too_many_frames": {"shapes and lengths": "subsampling says 3"},
    "encoder broken/leaks_padding": {"padding invariance": "padding leaks"},
    "encoder broken/relative_lengths": {"padding invariance": "must not depend on the padding"},
    "encoder broken/forgets_to_unsort": {"batch order": "order of the batch"},
    "encoder broken/fails_on_nothing": {"short recordings": "not finite"},
    "encoder broken/forgets_between_pieces": {"streaming equals offline": "give other vectors"},
    "encoder broken/loses_the_last_piece": {"streaming equals offline": "and as a whole"},
    "preprocessor broken/no_sample_rate": {"attributes": "sample_rate is 8000.0, not a positive whole number"},
    "preprocessor broken/wrong_frame_rate": {"shapes and lengths": "200 frames more, and frame_rate says 200.0"},
    "preprocessor broken/int32_lengths": {"shapes and lengths": "torch.int32"},
    "preprocessor broken/normalizes_padding": {"padding invariance": "padding leaks"},
    "preprocessor broken/one_frame_deviation": {"short recordings": "recordings of 1 samples give numbers that are not finite"},
    "augmentation broken/always": {"identity in eval": "changes features in eval"},
    "augmentation broken/shortens": {"keeps the shape": "(2, 55, 16)"},
    "augmentation broken/never": {"changes features in training": "changed nothing"},
    "decoder broken/other_width": {"attributes": "its d_in is 17, built with d_in=16"},
    "decoder broken/unknown_search": {"names its search": "Did you mean 'best'"},
    "search broken/one_for_all": {"hypotheses": "3 utterances gave 1"},
    "search broken/lacks_ends": {"hypotheses": "not equally many"},
    "search broken/goes_back": {"hypotheses": "the starts go back"},
    "search broken/ends_early": {"hypotheses": "ends before it starts"},
    "search broken/finds_blanks": {"hypotheses": "below 12"},
    "search broken/plain_tuples": {"hypotheses": "not a sonant.protocols.Hypothesis"},
    "search broken/searches_padding": {"batch invariance": "padding leaks into the search"},
    "search broken/always_one": {"empty utterances": "an utterance of no frames gave"},
    "tokenizer broken/counts_wrong": {"attributes": "vocab_size is 6.0"},
    "tokenizer broken/numbered_pieces": {"vocabulary": "other things than text"},
    "tokenizer broken/ids_from_one": {"text round trip": "has ids [6], and vocab_size says 6"},
    "tokenizer broken/writes_backwards": {"text round trip": "comes back as"},
    "tokenizer broken/only_reads": {"text round trip": "none of its ids"},
    "task broken/loses_one": {"infers": "3 recordings gave 2 results"},
    "task broken/draws_anew": {"saved and opened": "gives another result"},
    "task broken/cannot_be_built": {"builds": "ValueError: no encoder is good enough (task.py:"},
    "plugin heavy-config": {"imports no torch": "heavy_config/config.py:3"},
    "plugin slow-plugin": {"import time": "more than 0.2 s"},
}
"""What each broken plugin or component fails, with a piece of the message; it passes or skips all else."""


@pytest.fixture(scope="module", autouse=True)
def import_path():
    """The plugins of the test data can be found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DATA))
        plugins.refresh()
        yield
    plugins.refresh()


@pytest.fixture(autouse=True)
def installed(clean_environment, monkeypatch):
    """Those plugins, and no others."""
    monkeypatch.setenv("SONANT_PLUGINS", DISTRIBUTIONS)


@pytest.fixture
def broken():
    """The checks of everything that is broken, by what they are about."""
    found = defaultdict(list)
    for distribution in DISTRIBUTIONS.split(",")[1:]:
        for check in contract.checks(distribution):
            found[check.subject].append(check)
    return found


def outcomes(checks, wanted):
    return {check.name: detail for check in checks for outcome, detail in [contract.run(check)] if outcome == wanted}


def test_good_components_keep_every_promise():
    by_subject = defaultdict(dict)
    for check in contract.checks("good-parts"):
        outcome, detail = contract.run(check)
        assert outcome != "failed", (check.label, detail)
        if outcome == "skipped":
            by_subject[check.subject][check.name] = detail
    assert by_subject == SKIPPED


@pytest.mark.filterwarnings("ignore:Class `Indulgent` subclasses `Dict`")
@pytest.mark.parametrize("subject", BROKEN)
def test_a_broken_promise_fails_there_and_only_there(broken, subject):
    failed = outcomes(broken[subject], "failed")
    assert failed.keys() == BROKEN[subject].keys(), failed
    for name, piece in BROKEN[subject].items():
        assert piece in failed[name]


def test_each_check_fails_for_something():
    shown = {(subject.partition(" ")[0], name) for subject, faults in BROKEN.items() for name in faults}
    used = {"plugin": contract.EVERY_PLUGIN} | {kind: (*contract.EVERY_KIND, *contract.BY_KIND.get(kind, ())) for kind in KINDS}
    places = defaultdict(set)
    for kind, promises in used.items():
        for promise in promises:
            places[promise].add((kind, promise.__name__.replace("_", " ")))
    assert len(places) > 30
    assert [promise for promise, where in places.items() if not where & shown] == []


@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        ("encoder broken/tiny_does_not_fill", "its tiny config does not fill"),
        ("encoder broken/raises", "does not build"),
        ("encoder broken/no_subsampling", "its attributes are not usable"),
    ],
)
def test_one_fault_is_reported_once(broken, subject, reason):
    skipped = outcomes(broken[subject], "skipped")
    assert len(skipped) >= 10
    assert set(skipped.values()) == {reason}


def test_a_search_that_finds_nothing_is_not_said_to_work(broken):
    skipped = outcomes(broken["search broken/finds_nothing"], "skipped")
    assert skipped == {"hypotheses": "with random weights it finds no labels in noise"}


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


@pytest.mark.parametrize(("distribution", "status"), [("slow-plugin", 1), ("broken-tasks", 1), ("good-parts", 0)])
def test_the_command_line_runs_the_checks(distribution, status):
    result = CliRunner().invoke(plugins_command, ["--check", "--json", distribution])
    assert result.exit_code == status
    reports = json.loads(result.stdout)["checks"]
    assert [r["check"] for r in reports] == [check.label for check in contract.checks(distribution)]
    assert any(r["outcome"] == "failed" for r in reports) == bool(status)


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
