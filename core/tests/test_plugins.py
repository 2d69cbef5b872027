"""A broken plugin is recorded, listed and named in failed lookups, and the host goes on."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from sonant import plugins, registry
from sonant.errors import PluginError, UnknownName

Install = Callable[..., Any]
Cli = Callable[..., Any]

HEADER = "from sonant import ComponentSpec, KernelSpec, hookimpl\nSONANT_API = 1\n"
SPEC = "ComponentSpec(kind='encoder', name='{name}', target='acme_net:Net', config='acme_net:NetConfig', doc='An encoder.')"


def providing(*names: str) -> str:
    """The source of a plugin that provides encoders of these names."""
    specs = ", ".join(SPEC.format(name=name) for name in names)
    return f"{HEADER}@hookimpl\ndef sonant_components():\n    return [{specs}]\n"


def returning(value: str, hook: str = "sonant_components") -> str:
    return f"{HEADER}@hookimpl\ndef {hook}():\n    return {value}\n"


FAULTS = {
    "absent import": ("import a_module_nobody_has", "ModuleNotFoundError: No module named 'a_module_nobody_has'"),
    "syntax error": ("def (:", "SyntaxError"),
    "exception": ("1 / 0", "ZeroDivisionError: division by zero"),
    "exit": ("raise SystemExit(3)", "SystemExit: 3"),
    "no api": ("from sonant import hookimpl", "does not state the hook API .* add SONANT_API = 1"),
    "other api": ("SONANT_API = 2", "written for hook API 2, this Sonant has 1"),
    "unmarked hook": (f"{HEADER}def sonant_components():\n    return []", r"sonant_components lacks @sonant.hookimpl"),
    "misspelt hook": (f"{HEADER}@hookimpl\ndef sonant_componets():\n    return []", "unknown hook 'sonant_componets'"),
    "wrong signature": (f"{HEADER}@hookimpl\ndef sonant_components(registry):\n    return []", "registry"),
    "returns nothing": (returning("None"), "sonant_components returned NoneType, not an iterable of ComponentSpec"),
    "returns a string": (returning("'encoder'"), "sonant_components returned str, not an iterable of ComponentSpec"),
    "returns integers": (returning("[1, 2]"), "sonant_components returned a int among its items; each must be a ComponentSpec"),
    "returns other specs": (returning(f"[{SPEC.format(name='a')}]", "sonant_kernels"), "returned a ComponentSpec .* KernelSpec"),
    "returns names of cards": (
        returning("['cards.yaml']", "sonant_model_cards"),
        "returned a str among its items; .* Traversable",
    ),
    "hook raises": (returning("open('/nonexistent/specs')"), "FileNotFoundError"),
    "generator raises": (f"{HEADER}@hookimpl\ndef sonant_components():\n    yield 1 / 0", "ZeroDivisionError"),
    "bad name": (providing("Zip Former"), "'Zip Former' is not a component name"),
    "one name twice": (providing("acme/a", "acme/a.v1"), "registers encoder 'acme/a' more than once"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_plugin_is_recorded_and_the_rest_works(fault: str, install: Install) -> None:
    before = plugins.installed()
    source, message = FAULTS[fault]
    install("acme-broken", source)
    found = {p.distribution: p for p in plugins.installed()}
    broken = found.pop("acme-broken")
    assert re.search(message, broken.error)
    assert broken.error.splitlines()[0].split(":")[0] in broken.traceback
    assert (broken.components, broken.kernels, broken.cards, broken.commands) == ((), (), (), None)
    assert [(p.label, p.components) for p in found.values()] == [(p.label, p.components) for p in before]
    assert registry.current().get("encoder", "fastconformer").plugin.distribution == "sonant-encoders"
    with pytest.raises(UnknownName, match=re.escape("1 plugin failed to load: acme-broken (run `sonant plugins`).")):
        registry.current().get("encoder", "acme/zipformer")


@pytest.mark.parametrize(
    ("value", "message"),
    [("acme_broken:NUMBER", "not a module"), ("acme_broken:ABSENT", "ABSENT"), ("acme_absent", "No module named 'acme_absent'")],
)
def test_an_entry_point_that_names_no_module(value: str, message: str, install: Install) -> None:
    install("acme-broken", "NUMBER = 1", value=value)
    (broken,) = [p for p in plugins.installed() if p.distribution == "acme-broken"]
    assert message in broken.error


def test_interrupting_is_not_a_plugin_fault(install: Install) -> None:
    install("acme-slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        plugins.installed()


def test_debugging_raises_the_first_failure(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("acme-broken", "1 / 0")
    monkeypatch.setenv("SONANT_DEBUG_PLUGINS", "1")
    with pytest.raises(ZeroDivisionError):
        plugins.installed()
    monkeypatch.setenv("SONANT_DEBUG_PLUGINS", "0")
    assert "acme-broken" in {p.distribution for p in plugins.installed()}


def test_debugging_shows_a_broken_contract(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("acme-broken", returning("None"))
    monkeypatch.setenv("SONANT_DEBUG_PLUGINS", "1")
    with pytest.raises(PluginError, match="returned NoneType"):
        plugins.installed()


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        ("", []),
        (" , ", []),
        ("acme-good", ["acme-good"]),
        ("Acme_Good", ["acme-good"]),
        ("zip", []),  # an entry point can have any name; a distribution cannot
        ("sonant-features, acme-good", ["acme-good", "sonant-features"]),
        ("nobody", []),
    ],
)
def test_allow_list(allowed: str, expected: list[str], install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("acme-good", providing("acme/zipformer"), entry="zip")
    install("acme-broken", "1 / 0")
    monkeypatch.setenv("SONANT_PLUGINS", allowed)
    plugins.refresh()
    assert [p.distribution for p in plugins.installed()] == expected


def test_plugins_left_out_are_not_imported(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("acme-rude", "raise KeyboardInterrupt")
    monkeypatch.setenv("SONANT_PLUGINS", "sonant-asr")
    plugins.refresh()
    assert [p.distribution for p in plugins.installed()] == ["sonant-asr"]


def test_equal_entry_point_names_both_load(install: Install) -> None:
    install("acme-one", providing("acme/one"), entry="speech")
    install("acme-two", providing("acme/two"), entry="speech")
    names = registry.current().names("encoder")
    assert {"acme/one", "acme/two"} <= set(names)


def test_a_distribution_without_metadata(install: Install) -> None:
    install("acme-bare", providing("acme/bare"), entry="bare", named=False)
    found = registry.current().get("encoder", "acme/bare").plugin
    assert (found.distribution, found.version, found.error) == ("bare", "?", "")
    assert {"sonant-asr", "sonant-encoders"} <= {p.distribution for p in plugins.installed()}


def test_hooks_may_be_generators_and_plugins_may_be_empty(install: Install) -> None:
    install("acme-lazy", f"{HEADER}@hookimpl\ndef sonant_components():\n    yield {SPEC.format(name='acme/lazy')}\n")
    install("acme-empty", "SONANT_API = 1")
    found = {p.distribution: p for p in plugins.installed()}
    assert [s.name for s in found["acme-lazy"].components] == ["acme/lazy"]
    assert (found["acme-empty"].error, found["acme-empty"].components) == ("", ())


def test_refreshing_finds_what_was_installed_and_removed(install: Install) -> None:
    assert "acme/new" not in registry.current().names("encoder")
    info = install("acme-new", providing("acme/new"))
    assert "acme/new" in registry.current().names("encoder")
    shutil.rmtree(info)
    plugins.refresh()
    assert "acme/new" not in registry.current().names("encoder")


def test_listing_shows_the_failed_plugin(install: Install, cli: Cli) -> None:
    install("acme-broken", "1 / 0")
    install("acme-good", providing("acme/zipformer"))
    listed = cli("plugins")
    assert listed.returncode == 1
    assert re.search(r"^acme-broken +0\.1 +failed +ZeroDivisionError: division by zero$", listed.stdout, re.M)
    assert re.search(r"^acme-good +0\.1 +ok +encoder acme/zipformer$", listed.stdout, re.M)
    assert "Traceback (most recent call last)" not in listed.stdout + listed.stderr
    with_tracebacks = cli("plugins", "--traceback", "acme-broken")
    assert "1 / 0" in with_tracebacks.stdout
    assert "acme-good" not in with_tracebacks.stdout


def test_listing_tells_an_error_of_several_lines_in_one(install: Install, cli: Cli) -> None:
    install("acme-broken", f"{HEADER}@hookimpl\ndef sonant_components(registry):\n    return []")
    (row,) = [line for line in cli("plugins").stdout.splitlines() if line.startswith("acme-broken")]
    assert "hook 'sonant_components'" in row
    assert "{'registry'}" in row


def test_listing_as_json(install: Install, cli: Cli) -> None:
    install("acme-broken", "raise SystemExit(0)")
    install("acme-good", providing("fastconformer"))
    listed = cli("plugins", "--json")
    assert listed.returncode == 1
    document = json.loads(listed.stdout)
    rows = {row["distribution"]: row for row in document["plugins"]}
    assert (rows["acme-broken"]["status"], rows["acme-broken"]["error"]) == ("failed", "SystemExit: 0")
    assert (rows["acme-good"]["status"], rows["acme-good"]["error"]) == ("ok", None)
    assert rows["acme-good"]["components"] == ["encoder/fastconformer"]
    (conflict,) = document["conflicts"]
    assert "encoder 'fastconformer'" in conflict
    assert "acme-good 0.1" in conflict
    assert "sonant-encoders" in conflict


def test_listing_one_plugin(install: Install, cli: Cli) -> None:
    install("acme-broken", "1 / 0")
    fine = cli("plugins", "sonant-encoders")
    assert (fine.returncode, "acme-broken" in fine.stdout) == (0, False)
    absent = cli("plugins", "acme-absent")
    assert absent.returncode == 1
    assert "no plugin called acme-absent is installed" in absent.stderr


@pytest.mark.parametrize("fault", ["1 / 0", "raise SystemExit(0)"])
def test_commands_that_cannot_be_added(fault: str, install: Install, cli: Cli) -> None:
    install("acme-commands", f"{HEADER}@hookimpl\ndef sonant_commands(app):\n    {fault}\n")
    shown = cli("--help")
    assert shown.returncode == 0
    assert "the commands of acme-commands 0.1 cannot be added" in shown.stderr
    assert "transcribe" in shown.stdout


def test_a_command_of_a_plugin(install: Install, cli: Cli) -> None:
    source = (
        "import click\n\n\n@click.command('acme-hello')\ndef hello():\n    'Say hello.'\n    click.echo('hello')\n\n\n"
        "@hookimpl\ndef sonant_commands(app):\n    app.add_command(hello)\n"
    )
    install("acme-commands", HEADER + source)
    assert "Say hello." in cli("--help").stdout
    assert cli("acme-hello").stdout == "hello\n"


def test_an_allow_list_that_leaves_out_everything_is_named(cli: Cli) -> None:
    assert "SONANT_PLUGINS='' leaves out every plugin" in cli("plugins", SONANT_PLUGINS="").stdout


def test_an_unknown_command_mentions_the_failed_plugin(install: Install, cli: Cli) -> None:
    install("acme-broken", "1 / 0")
    tried = cli("synthesize")
    assert tried.returncode == 2
    assert "No such command 'synthesize'" in tried.stderr
    assert "acme-broken" in tried.stderr
