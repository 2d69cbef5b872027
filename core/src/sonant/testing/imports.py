"""What a plugin promises as a whole: describing it is cheap."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from typing import Any

from sonant.plugins import Plugin
from sonant.testing import probe
from sonant.testing.check import require

LIMIT_SECONDS = 0.2


@cache
def _probe(module: str, configs: tuple[str, ...], path: tuple[str, ...]) -> dict[str, Any]:
    job = {"path": path, "plugin": module, "configs": configs}
    command = [sys.executable, "-P", probe.__file__]
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, check=False)  # noqa: S603
    require(done.returncode == 0 and done.stdout, f"{module} does not import in a fresh process:\n{done.stderr.strip()}")
    return dict(json.loads(done.stdout))


def _measure(plugin: Plugin) -> dict[str, Any]:
    configs = sorted({spec.config.partition(":")[0] for spec in plugin.components})
    return _probe(plugin.module.partition(":")[0], tuple(configs), tuple(sys.path))


def imports_no_torch(plugin: Plugin) -> None:
    """The plugin's module and its config modules are imported to list and describe components, and must not bring in torch."""
    asker = _measure(plugin)["torch"]
    require(
        asker is None,
        f"importing {plugin.module} and the config modules brings in torch, first asked for at {asker}: "
        "import it in the modules that targets name, and there only",
    )


def import_time(plugin: Plugin) -> str:
    """Importing the plugin's module takes next to no processor time."""
    seconds = float(_measure(plugin)["seconds"])
    require(
        seconds <= LIMIT_SECONDS,
        f"importing {plugin.module} takes {seconds:.2f} s, more than {LIMIT_SECONDS} s, and every command waits for it: "
        "import only sonant and the standard library there",
    )
    return f"{seconds * 1000:.0f} ms"


CHECKS = (imports_no_torch, import_time)
