"""A fresh virtual environment with this one's third-party packages and nothing that leads to this checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path


def run(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    """Standard output of a command that must succeed and knows nothing of this checkout."""
    outside = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "SONANT_"))}
    done = subprocess.run(command, cwd=cwd, env=outside | environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def create(home: Path, *wheels: Path) -> Path:
    """Make the environment `home`, install `wheels` into it with pip, and return its `bin` folder.

    Third-party packages are linked one by one, without `.pth` files and without any Sonant.
    """
    venv.create(home, symlinks=True)
    python = home / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    for entry in _third_party():
        if not (site / entry.name).exists():
            (site / entry.name).symlink_to(entry, target_is_directory=entry.is_dir())
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", *wheels, cwd=home)
    return python.parent


def _third_party() -> Iterator[Path]:
    for folder in map(Path, sys.path):
        if folder.name in ("site-packages", "dist-packages"):
            yield from (e for e in folder.iterdir() if e.suffix != ".pth" and "sonant" not in e.name and e.name != "__pycache__")
