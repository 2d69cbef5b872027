"""What installed plugins cost every command: `sonant plugins` with ever more of them, and with one that sleeps when imported.

    python benchmarks/many_plugins.py

Lays fake plugins, each with one encoder, beside the installed ones and times whole processes: the first run, which compiles their
modules, and the median of later ones. Appends a row to `benchmarks/results.jsonl`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sides import about

HERE = Path(__file__).parent
SLEEP = 10
PLUGIN = """\
from sonant import ComponentSpec, hookimpl

SONANT_API = 1


@hookimpl
def sonant_components():
    target, config = "{package}.model:Net", "{package}.config:NetConfig"
    return [ComponentSpec(kind="encoder", name="fake/{package}", target=target, config=config, doc="Fake.")]
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[0, 50, 200])
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    row = {"what": "plugins", "seconds": {}}
    with tempfile.TemporaryDirectory() as folder:
        for count in options.counts:
            for number in range(count):
                _install(Path(folder), f"fake{number:03}", PLUGIN.format(package=f"fake{number:03}"))
            first, *later = (_seconds(folder) for _ in range(options.runs))
            row["seconds"][f"{count} more"] = {"first": round(first, 3), "later": round(statistics.median(later), 3)}
            print(f"{count} more plugins: first {first:.2f} s, later {statistics.median(later):.2f} s", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        _install(Path(folder), "sleeper", f"import time\ntime.sleep({SLEEP})\n{PLUGIN.format(package='sleeper')}")
        seconds = _seconds(folder)
        row["seconds"][f"one that sleeps {SLEEP} s"] = {"first": round(seconds, 3)}
        print(f"one that sleeps {SLEEP} s: {seconds:.2f} s")
    with (HERE / "results.jsonl").open("a") as file:
        file.write(json.dumps(row | about()) + "\n")


def _install(site: Path, package: str, source: str) -> None:
    """What pip leaves of a distribution."""
    info = site / f"{package}-0.1.dist-info"
    for path in (info, site / package):
        path.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 0.1\nRequires-Dist: sonant<0.2,>=0.1\n")
    (info / "entry_points.txt").write_text(f"[sonant.plugins]\n{package} = {package}.plugin\n")
    (site / package / "__init__.py").write_text("")
    (site / package / "plugin.py").write_text(source)


def _seconds(site: str) -> float:
    """How long `sonant plugins` takes, to its last line."""
    command = [str(Path(sys.executable).with_name("sonant")), "plugins"]
    start = time.perf_counter()
    subprocess.run(command, env=os.environ | {"PYTHONPATH": site}, capture_output=True, check=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
