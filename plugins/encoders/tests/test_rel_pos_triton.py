"""The GPU's `rel_pos_attention` against two truths in float64: in Triton's interpreter, and on a GPU where there is one.

Needs triton. `test_rel_pos_attention.py` has the truths, and holds the other backends to them on any machine.
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
from torch import Tensor

from sonant import kernels
from sonant.errors import KernelUnavailable

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
_HERE = Path(__file__).parent
_INPUTS = ("q", "k", "v", "p", "u", "v_bias")
_IN_FLOAT32 = ["full", "window, tiles as on Hopper", "chunks, earlier frames", "one query", "some see nothing"]

Results = dict[str, dict[str, dict[str, Tensor]]]


def run(script: str, *arguments: Path | str, **environment: str) -> str:
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("TRITON_")}
    surroundings |= {"PYTHONPATH": os.pathsep.join(sys.path), **environment}
    command = [sys.executable, "-W", "ignore", _HERE / script, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, env=surroundings, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def error(ours: Tensor, truth: Tensor) -> float:
    assert ours.shape == truth.shape and not ours.isnan().any()
    return float((ours.double() - truth.double()).norm() / truth.double().norm().clamp(min=1e-30))


def errors(ours: dict[str, Tensor], truth: dict[str, Tensor]) -> dict[str, float]:
    return {name: error(ours[name], one) for name, one in truth.items()}


@pytest.fixture(scope="module", params=["interpreter", "gpu"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What `run_triton_attention.py` makes of its cases."""
    if request.param == "gpu" and not torch.cuda.is_available():
        pytest.skip("no GPU here; Triton's interpreter runs the same")
    file = tmp_path_factory.mktemp("triton") / "results.pt"
    run("run_triton_attention.py", file, **{"TRITON_INTERPRET": "1"} if request.param == "interpreter" else {})
    results: Results = torch.load(file, weights_only=True)
    return results


@pytest.fixture
def on_gpu(found: Results) -> Results:
    """The same, if it was a GPU that made it."""
    if "twice" not in found:
        pytest.skip("only a GPU is fast enough for these; the interpreter runs some of their kind")
    return found


# --- Outputs and all gradients


@pytest.mark.parametrize("name", _IN_FLOAT32)
def test_it_is_the_formula(name: str, found: Results) -> None:
    assert max(errors(found[name]["ours"], found[name]["formula"]).values()) < 1e-5


@pytest.mark.parametrize("name", ["full", "window, tiles as on Hopper", "one query"])
def test_it_is_the_attention_without_a_shift(name: str, found: Results) -> None:
    """With the gradient of the positions carried on to the weights that they are made with."""
    assert max(errors(found[name]["ours"], found[name]["identity"]).values()) < 1e-5


@pytest.mark.parametrize(("name", "most"), [("bfloat16, square tiles", 2e-2), ("float16, a cache that is filling", 2e-3)])
def test_reduced_precision(name: str, most: float, found: Results) -> None:
    ours = found[name]["ours"]
    assert {one.dtype for one in ours.values()} == {torch.bfloat16 if most == 2e-2 else torch.float16}
    assert max(errors(ours, found[name]["formula"]).values()) < most
    assert error(ours["out"], found[name]["formula"]["out"]) < most / 2


def test_one_frame_is_its_own_value(found: Results) -> None:
    """No score matters, and none has a gradient."""
    ours = found["one frame"]["ours"]
    assert error(ours["out"], found["one frame"]["formula"]["out"]) < 1e-6
    assert (ours["out"][1] == 0).all() and (ours["v"][1] == 0).all()  # a recording without any
    assert all(ours[name].abs().max() < 1e-5 for name in ("q", "k", "p", "u", "v_bias"))


def test_what_sees_nothing_gives_zero(found: Results) -> None:
    ours = found["some see nothing"]["ours"]
    assert (ours["out"][1] == 0).all() and (ours["out"][0, [1, 2, 4]] == 0).all()
    assert all((ours[name][1] == 0).all() for name in ("q", "k", "v"))
    assert (ours["q"][0, [1, 2, 4]] == 0).all() and (ours["q"][0, [0, 3]] != 0).any()


def test_an_encoder_with_it_computes_and_learns_the_same(found: Results) -> None:
    ours, truth = found["encoder"]["ours"], found["encoder"]["truth"]
    assert error(ours["out"], truth["out"]) < 1e-5
    least = max(float(one.norm()) for one in truth.values()) / 100  # the keys' bias has no gradient but for rounding
    wrong = [name for name, one in truth.items() if float((ours[name] - one).norm()) > 2e-5 * max(float(one.norm()), least)]
    assert wrong == []


def test_many_shapes_and_masks(on_gpu: Results) -> None:
    swept = {name: one for name, one in on_gpu.items() if " frames, " in name}
    assert len(swept) == 60
    wrong = {}
    for name, one in swept.items():
        least = float(one["formula"]["v"].norm()) / 10  # with one key to see, scores have no gradient but for rounding
        for what, truth in one["formula"].items():
            off = float((one["ours"][what].double() - truth).norm()) / max(float(truth.norm()), least)
            if not off < 2e-5:
                wrong[f"{name}: {what}"] = off
    assert wrong == {}


# --- Padding, layout, precision


@pytest.mark.parametrize("filling", ["nan", "huge"])
def test_padding_is_not_looked_at(filling: str, found: Results) -> None:
    clean, dirty = found["spoiled"]["clean"], found["spoiled"][filling]
    assert all(dirty[name].equal(clean[name]) for name in clean)
    assert (clean["k"][1, :3] == 0).all() and (clean["v"][1, 17:] == 0).all()


def test_inputs_may_be_slices(found: Results) -> None:
    one = found["strided"]
    torch.testing.assert_close(one["strided"], one["plain"])


def test_under_autocast_it_computes_in_its_precision(found: Results) -> None:
    """And gives gradients in that of the inputs. The biases stay as they are."""
    ours, truth = found["autocast"]["found"], found["autocast"]["truth"]
    assert ours["out"].dtype == torch.bfloat16
    assert {ours[name].dtype for name in _INPUTS} == {torch.float32}
    assert max(errors(ours, truth).values()) < 2e-2


def test_gradients_come_out_the_same_each_time(on_gpu: Results) -> None:
    once, again = on_gpu["twice"]["once"], on_gpu["twice"]["again"]
    assert [name for name in once if not once[name].equal(again[name])] == []


# --- What it refuses, and what is compiled


def inputs(**changed: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, 4, 2, 8, generator=generator)
    given = {"q": q, "k": k, "v": v, "p": torch.randn(7, 2, 8), "u": torch.randn(2, 8), "v_bias": torch.randn(2, 8)}
    return given | changed


_EXTRA = (torch.zeros(1, 2, 4, 1), torch.zeros(1, 1, 2, 8))
_WIDE = {name: torch.zeros(1, 4, 2, 256) for name in ("q", "k", "v")} | {"p": torch.zeros(7, 2, 256)}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, None),
        ({"extra": _EXTRA}, "it has no keys out of order (global tokens)"),
        ({"k": inputs()["k"].double()}, "it computes float32, bfloat16 and float16, not torch.float64"),
        (_WIDE, "its heads are at most 128 wide, not 256"),
        ({"q": torch.zeros(0, 4, 2, 8)}, "there is nothing to attend to"),
        ({"k": torch.zeros(1, 1, 2, 8).expand(1, 2**28, 2, 8)}, "a recording has more than 2^31 elements"),
    ],
)
def test_what_it_refuses(changed: dict[str, Any], reason: str | None) -> None:
    from sonant_encoders.kernels.rel_pos_attention import triton

    assert triton.refuses(**inputs(**changed)) == reason


def test_what_is_refused_goes_to_the_next_or_is_an_error() -> None:
    """As on a GPU: the choice is made by the name of the device, and these inputs are refused wherever they are."""
    given = inputs(extra=_EXTRA)
    truth = kernels.get("rel_pos_attention", "cpu", "reference")(**given)
    torch.testing.assert_close(kernels.get("rel_pos_attention", "cuda")(**given), truth)
    with pytest.raises(KernelUnavailable, match="'triton' kernel .* does not take these inputs: it has no keys out of order"):
        kernels.get("rel_pos_attention", "cuda", "triton")(**given)


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
def test_a_graph_that_is_compiled_has_the_next() -> None:
    def attend(given: dict[str, Any]) -> Tensor:
        return kernels.get("rel_pos_attention", "cuda")(**given)

    given = inputs()
    truth = kernels.get("rel_pos_attention", "cpu", "reference")(**given)
    torch.testing.assert_close(torch.compile(attend, backend="eager")(given), truth)


@pytest.mark.parametrize(("capability", "memory"), [(80, 163 * 1024), (90, 227 * 1024)])
def test_its_programs_fit_a_gpu(capability: int, memory: int, tmp_path: Path) -> None:
    """Without having one: they multiply on tensor cores and keep nearly everything in registers, at any width of heads."""
    made = json.loads(run("compile_attention.py", str(capability), TRITON_CACHE_DIR=str(tmp_path)))
    assert [(one["target"], one["name"], one["width"]) for one in made] == [
        (f"sm_{capability}", name, width) for width in (64, 128) for name in ("attend", "of_queries", "of_keys", "of_positions")
    ]
    assert all(one["wgmma" if capability == 90 else "mma"] > 10 for one in made)
    assert all(one["spilled"] < 256 and one["shared"] <= memory for one in made), made
