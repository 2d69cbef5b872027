"""What is said of a plugin that works: slow to import, of an older hook API, installed twice; and of very many plugins."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sonant import config, hooks, plugins, registry
from sonant.errors import PluginError, UnknownName

Install = Callable[..., Path]

HEADER = "from sonant import ComponentSpec, KernelSpec, hookimpl\nSONANT_API = 1\n"
PROVIDING = (
    HEADER + "@hookimpl\ndef sonant_components():\n"
    "    return [ComponentSpec(kind='encoder', name='{name}', target='acme_net:Net', config='acme_net:NetConfig', doc='One.')]\n"
)
SLEEPING = f"import time\ntime.sleep(0.4)\n{PROVIDING.format(name='acme/slow')}"


def plugin(distribution: str) -> plugins.Plugin:
    (found,) = [p for p in plugins.installed() if p.distribution == distribution]
    return found


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_PATIENCE", 0.1)
    monkeypatch.setattr(plugins, "_SLOW", 0.3)


@pytest.mark.usefixtures("impatient")
def test_a_plugin_that_sleeps_is_named_while_it_is_waited_for_and_afterwards(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install("acme-slow", SLEEPING)
    install("acme-quick", PROVIDING.format(name="acme/quick"))
    with caplog.at_level(logging.WARNING, logger="sonant.plugins"):
        slow = plugin("acme-slow")
    (told,) = caplog.messages
    assert "waiting for the plugin acme-slow 0.1: importing acme_slow takes long" in told
    assert "SONANT_PLUGINS" in told
    assert (slow.error, [s.name for s in slow.components]) == ("", ["acme/slow"])
    (note,) = slow.notes
    assert re.match(r"importing it took 0\.[4-9] s, and every command waits for it", note)
    assert plugin("acme-quick").notes == ()
    assert {"acme/slow", "acme/quick", "fastconformer"} <= set(registry.current().names("encoder"))


@pytest.mark.usefixtures("impatient")
def test_a_slow_plugin_that_fails_is_recorded_with_both(install: Install) -> None:
    install("acme-slow", "import time\ntime.sleep(0.4)\n1 / 0")
    slow = plugin("acme-slow")
    assert slow.error == "ZeroDivisionError: division by zero"
    assert any(note.startswith("importing it took") for note in slow.notes)


def test_a_deprecated_hook_works_and_is_noted(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    def sonant_kernels() -> Any:
        """A hook on its way out."""

    warning = DeprecationWarning("sonant_kernels goes in 2.0: use sonant_operations")
    monkeypatch.setattr(hooks, "sonant_kernels", hooks.hookspec(warn_on_impl=warning)(sonant_kernels))
    kernel = "KernelSpec(op='acme/add', backend='acme', target='acme_old:add')"
    install("acme-old", f"{HEADER}@hookimpl\ndef sonant_kernels():\n    return [{kernel}]\n")
    install("acme-new", PROVIDING.format(name="acme/new"))
    old = plugin("acme-old")
    assert (old.error, [k.op for k in old.kernels]) == ("", ["acme/add"])
    assert old.notes == ("sonant_kernels goes in 2.0: use sonant_operations",)
    assert plugin("acme-new").notes == ()


def test_a_misspelt_hook_is_told_the_hooks_there_are(install: Install) -> None:
    install("acme-typo", f"{HEADER}@hookimpl\ndef sonant_componets():\n    return []\n")
    error = plugin("acme-typo").error
    assert "unknown hook 'sonant_componets'. Did you mean 'sonant_components'?" in error
    assert "sonant_commands, sonant_components, sonant_kernels, sonant_model_cards" in error


def test_a_second_copy_of_a_distribution_is_noted(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install("acme-twice", PROVIDING.format(name="acme/new"), version="0.2")
    other = tmp_path / "other"
    info = other / "Acme_Twice-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Acme_Twice\nVersion: 0.1\n", "utf-8")
    (info / "entry_points.txt").write_text("[sonant.plugins]\nacme = acme_twice\n", "utf-8")
    monkeypatch.setattr(sys, "path", [*sys.path, str(other), str(other)])
    plugins.refresh()
    twice = plugin("acme-twice")
    assert (twice.version, twice.error) == ("0.2", "")
    assert twice.notes == (f"another copy, 0.1 in {other}, is hidden by the one in {tmp_path / 'site-packages'}",)


def test_two_hundred_plugins(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as quiet:
        quiet.setattr(plugins, "refresh", lambda: None)
        for number in range(200):
            install(f"acme-{number:03}", PROVIDING.format(name=f"acme/net{number}"))
    plugins.refresh()
    found = plugins.installed()
    assert len(found) >= 203
    assert [(p.label, p.error, p.notes) for p in found if p.error or p.notes] == []
    names = registry.current().names("encoder")
    assert {f"acme/net{number}" for number in range(200)} | {"fastconformer"} <= set(names)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("import tourch", "No module named 'tourch' ({site}/acme_net.py:2)"),
        ("x = 1 / 0", "ZeroDivisionError: division by zero ({site}/acme_net.py:2)"),
        ("def (:", "SyntaxError: invalid syntax (acme_net.py, line 2)"),
        ("raise SystemExit(3)", "SystemExit: 3 ({site}/acme_net.py:2)"),
        ("object().absent", "AttributeError: 'object' object has no attribute 'absent' ({site}/acme_net.py:2)"),
    ],
)
def test_code_behind_a_spec_that_cannot_be_imported(module: str, reason: str, install: Install, tmp_path: Path) -> None:
    install("acme-speech", PROVIDING.format(name="acme/net"), modules={"acme_net": f"# Acme's\n{module}\n"})
    found = registry.current().get("encoder", "acme/net")
    with pytest.raises(PluginError) as caught:
        config.config_class(found)
    wanted = reason.format(site=tmp_path / "site-packages")
    assert str(caught.value) == f"encoder 'acme/net' (acme-speech 0.1): cannot import 'acme_net:NetConfig': {wanted}"
    assert "fastconformer" in registry.current().names("encoder")


@pytest.mark.parametrize("asks", ["registry.current().get('encoder', 'fastconformer')", "plugins.installed()"])
def test_a_plugin_that_looks_names_up_while_it_is_imported(asks: str, install: Install) -> None:
    install("acme-curious", f"from sonant import plugins, registry\n{asks}\n")
    assert "asks for the installed plugins while it is being imported" in plugin("acme-curious").error
    assert "fastconformer" in registry.current().names("encoder")


def test_what_a_plugin_prints_does_not_get_among_the_output(install: Install, capfd: pytest.CaptureFixture[str]) -> None:
    install("acme-chatty", f"print('hello')\n{PROVIDING.format(name='acme/chatty')}")
    assert plugin("acme-chatty").error == ""
    assert capfd.readouterr() == ("", "hello\n")


def test_a_distribution_without_the_entry_point_is_told_so(site: Path) -> None:
    info = site / "acme_mute-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-mute\nVersion: 0.1\n", "utf-8")
    said = plugins.unknown(["acme-mute", "acme-absent"])
    assert said.startswith("acme-mute is installed, but has no entry point in the group 'sonant.plugins'")
    assert said.endswith("no plugin called acme-absent is installed")


def test_a_provider_that_is_left_out_is_not_to_be_installed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SONANT_PLUGINS", "sonant-features")
    plugins.refresh()
    with pytest.raises(UnknownName, match="provided by sonant-encoders, which is installed, but SONANT_PLUGINS leaves it out"):
        registry.current().get("encoder", "fastconformer")
    monkeypatch.delenv("SONANT_PLUGINS")
    plugins.refresh()


def test_an_entry_point_named_like_an_allowed_distribution_is_not_imported(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("acme-evil", "raise KeyboardInterrupt", entry="sonant-features")
    monkeypatch.setenv("SONANT_PLUGINS", "sonant-features")
    plugins.refresh()
    assert [p.distribution for p in plugins.installed()] == ["sonant-features"]
