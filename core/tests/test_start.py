"""Starting is cheap: `import sonant` imports neither torch nor a plugin, and the commands that only look import no torch."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

CONFIG = """\
task: asr
preprocessor: log_mel
tokenizer: {name: char, labels: [a]}
encoder: fastconformer
decoder: ctc
"""

AFTER_COMMAND = """
import sys
from sonant.cli.main import main
sys.argv = ["sonant", *sys.argv[1:]]
try:
    main()
finally:
    print("imported:", *sys.modules, file=sys.stderr)
"""


def imported(code: str, *arguments: str) -> tuple[set[str], str]:
    """The modules that `code` has imported at its end, and what it printed."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120, check=True)
    return set(done.stderr.rsplit("imported:", 1)[1].split()), done.stdout


def plugin_packages() -> set[str]:
    return {entry.value.split(":")[0].split(".")[0] for entry in entry_points(group="sonant.plugins")}


def test_import_sonant() -> None:
    modules, _ = imported("import sonant, sys; sonant.ComponentSpec; print('imported:', *sys.modules, file=sys.stderr)")
    assert "sonant.spec" in modules
    assert plugin_packages() >= {"sonant_asr", "sonant_encoders", "sonant_features"}
    assert not modules & ({"torch", "numpy", "omegaconf", "huggingface_hub", "yaml"} | plugin_packages())


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--help"], "transcribe"),
        (["plugins"], "sonant-encoders"),
        (["components", "encoder"], "fastconformer"),
        (["models"], ""),
        (["describe", "encoder", "fastconformer"], "n_layers"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_commands_that_look_import_no_torch(arguments: list[str], shown: str) -> None:
    modules, output = imported(AFTER_COMMAND, *arguments)
    assert shown in output
    assert "sonant_asr.plugin" in modules
    assert "torch" not in modules


def test_checking_a_config_imports_no_torch(tmp_path: Path) -> None:
    file = tmp_path / "model.yaml"
    file.write_text(CONFIG, "utf-8")
    modules, output = imported(AFTER_COMMAND, "config", "show", str(file))
    assert "d_model: 512" in output
    assert "torch" not in modules


def test_inspecting_a_folder_imports_no_torch(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG, "utf-8")
    save_file({"encoder.bias": np.zeros((2, 3), np.float32)}, tmp_path / "model.safetensors")
    modules, output = imported(AFTER_COMMAND, "inspect", str(tmp_path))
    assert "encoder  1        6        float32  24 B" in output
    assert "torch" not in modules


def test_public_names() -> None:
    import sonant

    assert set(dir(sonant)) == set(sonant.__all__)
    for name in sonant.__all__:
        assert getattr(sonant, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'transcribe'"):
        _ = sonant.transcribe


def test_importing_sonant_changes_nothing_around_it() -> None:
    code = "import os; before = dict(os.environ), os.getcwd(); import sonant; print(before == (dict(os.environ), os.getcwd()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, timeout=60, check=True)
    assert (done.stdout.strip(), done.stderr) == ("True", "")
