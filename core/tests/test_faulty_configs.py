"""Config classes that a plugin got wrong say so in one line, with the plugin's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sonant import config
from sonant.errors import ConfigError, PluginError

Install = Callable[..., Path]

PLUGIN = """\
from sonant import ComponentSpec, hookimpl
SONANT_API = 1

@hookimpl
def sonant_components():
    return [ComponentSpec(kind="encoder", name="acme/net", target="acme_net:Net", config="acme_net:NetConfig", doc="A net.")]
"""


def define(install: Install, body: str) -> None:
    install("acme-speech", PLUGIN, modules={"acme_net": f"import attrs\nfrom dataclasses import dataclass\n\n{body}"})


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("@dataclass\nclass NetConfig:\n    width: int = 3\n", "config 'acme_net:NetConfig' is not an attrs class"),
        ("@attrs.frozen\nclass NetConfig:\n    width = attrs.field(default=3)\n", "width in its config: a field needs a type"),
    ],
)
def test_a_class_that_cannot_be_a_config(body: str, wanted: str, install: Install) -> None:
    define(install, body)
    with pytest.raises(PluginError, match=rf"^encoder 'acme/net' \(acme-speech 0\.1\): {wanted}"):
        config.fill_section("encoder", "acme/net", "encoder")


def test_a_config_that_fails_when_it_is_made_says_where(install: Install, tmp_path: Path) -> None:
    body = "@attrs.frozen\nclass NetConfig:\n    width: int = 3\n    def __attrs_post_init__(self):\n        self.absent()\n"
    define(install, body)
    with pytest.raises(ConfigError) as caught:
        config.fill_section("encoder", "acme/net", "encoder")
    text = str(caught.value)
    assert text.startswith(
        "encoder: acme_net.NetConfig cannot be filled: AttributeError: 'NetConfig' object has no attribute 'absent'"
    )
    assert text.endswith(f"({tmp_path / 'site-packages' / 'acme_net.py'}:8)")
