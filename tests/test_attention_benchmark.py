"""`benchmarks/attention.py` runs: in a small size, on a processor, with the kernel in Triton's interpreter."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMALL = ["--device", "cpu", "--tiny", "--heads", "2", "--width", "16", "--dtype", "float32"]


def run(*options: str, interpreted: bool = False) -> str:
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("TRITON_")}
    surroundings |= {"OMP_NUM_THREADS": "1"} | ({"TRITON_INTERPRET": "1"} if interpreted else {})
    command = [sys.executable, "-W", "ignore", "benchmarks/attention.py", *SMALL, *options]
    ran = subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_it_compares_and_times_and_keeps_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tmp_path / "rows.jsonl"
    output = run("--output", str(rows))
    assert output.count("largest error") == 2
    written = [json.loads(line) for line in rows.read_text().splitlines()]
    assert [row["label"] for row in written] == [
        "attention, 2 x 9",
        "attention, 2 x 9, with gradients",
        "attention, 2 x 9, window (3, 3)",
        "attention, 2 x 9, window (3, 3), with gradients",
        "training step, 2 x 0.64 s",
    ]
    assert all(row["sides"].keys() == {"sdpa", "reference"} and row["sides"]["sdpa"]["seconds"] > 0 for row in written)
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    page = importlib.import_module("report").page(rows.read_text())
    assert "Attention with relative positions on none" in page
    assert page.count("\n| attention, 2 x 9") == 4 and "| training step, 2 x 0.64 s | bfloat16 |" in page


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed; the other test runs without")
def test_it_tries_tiles_of_the_kernel() -> None:
    """After it has found that the kernel computes the formula."""
    output = run("--tune", interpreted=True)
    assert "triton    float32: largest error" in output
    for program in ("attend", "of_queries", "of_keys", "of_positions"):
        assert f"{program:12} Tile(block=16, span=16, warps=4, stages=2): " in output
    assert "does not run" not in output


def test_a_prediction_is_the_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand, of 8 heads of 128 over 1500 frames of 8 recordings, in bfloat16 on an H200."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    benchmark = importlib.import_module("attention")
    options = benchmark.argparse.Namespace(dtype="bfloat16", heads=8, width=128, tflops=788.0, tbps=4.3)
    products = 8 * 8 * 1500 * 1500 * 128 * 2
    assert benchmark.predict("triton", (8, 1500), None, False, options) == pytest.approx(3 * products / 788e12 / 0.4)
    scores, lines = 11 * 8 * 8 * 1500 * 1500 * 2, 4 * 8 * 1500 * 1024 * 2
    assert benchmark.predict("sdpa", (8, 1500), None, False, options) == pytest.approx((scores + lines) / 4.3e12 / 0.7)
    window = benchmark.predict("triton", (1, 30000), (128, 128), False, options)
    assert window < benchmark.predict("triton", (1, 30000), None, False, options) / 100
