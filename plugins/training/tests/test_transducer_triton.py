"""The GPU's transducer loss against the CPU's: on a GPU where there is one, else in Triton's interpreter.

Needs triton. `test_transducer_loss.py` checks the formula itself, and the same properties of the CPU's, on any machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from sonant_training.kernels.transducer_loss import cpu

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
_HERE = Path(__file__).parent


def batch(durations: int, dtype: torch.dtype = torch.float64, *, vocab: int = 6) -> dict[str, Any]:
    """Four utterances: a full one, one without labels, one too short for a TDT without a duration of 0, and one of nothing."""
    generator = torch.Generator().manual_seed(0)
    return {
        "logits": torch.randn(4, 5, 3, vocab + 1 + durations, generator=generator, dtype=torch.float64).mul(2).to(dtype),
        "labels": torch.randint(0, vocab, (4, 2), generator=generator),
        "lens": torch.tensor([5, 4, 1, 0]),
        "label_lens": torch.tensor([2, 0, 2, 1]),
    }


def padding(given: dict[str, Any]) -> torch.Tensor:
    """Where the logits `(B, T, U + 1)` are of no cell."""
    frames, positions = torch.arange(5)[:, None], torch.arange(3)
    return (frames >= given["lens"][:, None, None]) | (positions > given["label_lens"][:, None, None])


def _cases() -> dict[str, dict[str, Any]]:
    spoiled = batch(0)
    spoiled["logits"] = spoiled["logits"].masked_fill(padding(spoiled)[..., None], torch.nan)
    tdt = {"durations": [0, 1, 2, 4], "sigma": 0.05}
    return {
        "rnnt": {"given": batch(0), "how": {}},
        "rnnt, fastemit": {"given": batch(0), "how": {"fastemit_lambda": 0.3}},
        "tdt": {"given": batch(4), "how": {**tdt, "fastemit_lambda": 0.3}},
        "tdt, no zero": {"given": batch(2), "how": {"durations": [2, 1]}},
        "rnnt, ignored": {"given": batch(4), "how": {"ignored": 4}},
        "rnnt, bfloat16": {"given": batch(0, torch.bfloat16), "how": {}},
        "tdt, bfloat16": {"given": batch(4, torch.bfloat16), "how": tdt},
        "rnnt, spoiled": {"given": spoiled, "how": {}},
    }


def _run(script: str, *arguments: Path, **environment: str) -> str:
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("TRITON_")}
    surroundings |= {"PYTHONPATH": os.pathsep.join(sys.path), **environment}
    command = [sys.executable, _HERE / script, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, env=surroundings, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `run_triton.py` makes of all cases."""
    folder = tmp_path_factory.mktemp("triton")
    torch.save(_cases(), folder / "cases.pt")
    environment = {} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"}
    _run("run_triton.py", folder / "cases.pt", folder / "results.pt", **environment)
    results: dict[str, Any] = torch.load(folder / "results.pt", weights_only=True)
    return results


def _solve(given: dict[str, Any], how: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    logits = given["logits"].double().requires_grad_()
    losses = cpu.transducer_loss(**{**given, "logits": logits}, **how)
    finite = losses[losses.isfinite()]
    (finite * torch.arange(1, 1 + len(finite))).sum().backward()
    assert logits.grad is not None
    return losses.detach(), logits.grad


@pytest.mark.parametrize("name", ["rnnt", "rnnt, fastemit", "rnnt, ignored", "tdt", "tdt, no zero"])
def test_it_is_the_cpus(name: str, found: dict[str, Any]) -> None:
    losses, grad = _solve(**_cases()[name])
    torch.testing.assert_close(found[name]["losses"], losses, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(found[name]["grad"], grad, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["rnnt, bfloat16", "tdt, bfloat16"])
def test_reduced_precision_is_computed_in_float32(name: str, found: dict[str, Any]) -> None:
    losses, grad = _solve(**_cases()[name])
    assert (found[name]["losses"].dtype, found[name]["grad"].dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(found[name]["losses"].double(), losses, rtol=1e-5, atol=0)
    torch.testing.assert_close(found[name]["grad"].double(), grad, rtol=1e-2, atol=1e-4)


def test_padding_is_not_looked_at(found: dict[str, Any]) -> None:
    assert found["rnnt, spoiled"]["losses"].equal(found["rnnt"]["losses"])
    assert found["rnnt, spoiled"]["grad"].equal(found["rnnt"]["grad"])
    assert not found["rnnt"]["grad"][padding(batch(0))].any()


@pytest.mark.parametrize("name", ["rnnt", "tdt"])
def test_without_a_gradient_the_losses_are_the_same(name: str, found: dict[str, Any]) -> None:
    assert found[name]["alone"].equal(found[name]["losses"])


def test_the_gradient_takes_the_place_of_the_logits(found: dict[str, Any]) -> None:
    kept, reused = found["reuse"]["kept"], found["reuse"]["reused"]
    assert kept["unchanged"]
    assert not reused["unchanged"]
    torch.testing.assert_close(reused["grad"], kept["grad"])
    assert "modified by an inplace operation" in found["reuse"]["second"]


def test_its_programs_compile_for_a_hopper_gpu(tmp_path: Path) -> None:
    """Without having one."""
    found = json.loads(_run("compile_programs.py", TRITON_CACHE_DIR=str(tmp_path)))
    assert [program["name"] for program in found] == ["normalize", "sum_paths", "write_gradients"] * 2
    assert all(program["target"] == "sm_90" and program["bytes"] > 1000 for program in found)
    # The threads that go over a lattice wait for each other at each diagonal, and read past no stale cache.
    assert all(program["waits"] and not program["reads_stale"] for program in found if program["name"] == "sum_paths")
