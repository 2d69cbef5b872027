"""Attention with relative positions on a GPU: the kernel, PyTorch's attention with a bias, the formula.

    python benchmarks/attention.py [--dtype bfloat16] [--tune] [--output benchmarks/results.jsonl]

First each is compared with the formula in float64, outputs and all gradients; nothing is timed where one differs. Then, for
several lengths, forward and with the gradients: the median and the 20th and 80th percentile of the milliseconds, the most memory
beside the inputs, and what was predicted; and a training step of an encoder of 110 million parameters. Appends a row for each.

A prediction is the larger of the operations over what the GPU computes in a second and the bytes over what it moves
(`--tflops`, `--tbps`), over the share of that which such programs reach. Of each pair of frames that see each other and each
number of a head there are so many products, and so many scores are written or read:

| | products, forward | backward | scores, forward | backward | share reached, forward | backward |
|---|---|---|---|---|---|---|
| triton | 3 | 17 | 0 | 0 | 0.40 | 0.30 |
| sdpa | 4 | 9 | 11 | 14 | 0.70 | 0.70 |
| reference | 4 | 8 | 19 | 30 | 0.70 | 0.70 |

Ours computes the scores anew in three programs when it goes back; the others go over distances that no pair has. `--tune` times
each program with several tiles and prints them. `--device cpu --tiny` tries it all on a processor: with TRITON_INTERPRET=1 the
kernel too.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from sides import HERE, about
from torch import Tensor

import sonant
from sonant import config, kernels
from sonant.build import instantiate

SHAPES = [(1, 125), (1, 375), (96, 125), (32, 375), (8, 1500), (1, 7500), (1, 30000)]  # recordings, frames
WINDOW = (128, 128)  # of one more row, at the longest
TINY = [(2, 9)]
PRODUCTS = {"triton": (3, 17), "sdpa": (4, 9), "reference": (4, 8)}
SCORES = {"triton": (0, 0), "sdpa": (11, 14), "reference": (19, 30)}
REACHED = {"triton": (0.4, 0.3), "sdpa": (0.7, 0.7), "reference": (0.7, 0.7)}
GRAPH_UP_TO = 1500  # frames: shorter ones take less time than starting them does
TRITON = "sonant_encoders.kernels.rel_pos_attention.triton"

Attention = Callable[..., Tensor]
Inputs = dict[str, Any]


def main() -> None:
    """Compare, time, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--width", type=int, default=128, help="of a head")
    parser.add_argument("--tflops", type=float, default=788.0, help="what the GPU computes in a second; an H200's, measured")
    parser.add_argument("--tbps", type=float, default=4.3, help="terabytes that it moves in a second")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument(
        "--tune", action="store_true", help="time each program of the kernel with several tiles, and nothing else"
    )
    parser.add_argument("--tiny", action="store_true", help="small sizes, to try the benchmark itself")
    parser.add_argument("--output", type=Path, default=HERE / "results.jsonl")
    options = parser.parse_args()
    sides = backends(options.device)
    compare(sides, options)
    if options.tune:
        return tune(options)
    rows = [row for shape, window in shapes(options) for row in measure(sides, shape, window, options)]
    rows += train(sides, options)
    facts = about() | {"gpu": gpu(options.device), "sonant": sonant.__version__, "torch": torch.__version__}
    with options.output.open("a") as file:
        file.writelines(json.dumps(row | facts) + "\n" for row in rows)
    return None


def backends(device: str) -> dict[str, Attention]:
    """Those that run here, by name; on a processor Triton's, if it is interpreted."""
    names = ["sdpa", "reference"] if device == "cpu" else ["triton", "sdpa", "reference"]
    found = {name: kernels.get("rel_pos_attention", device, name) for name in names}
    if device == "cpu" and os.environ.get("TRITON_INTERPRET") == "1":
        found = {"triton": import_module(TRITON).rel_pos_attention} | found
    return found


def shapes(options: argparse.Namespace) -> list[tuple[tuple[int, int], tuple[int, int] | None]]:
    """Recordings and frames, and the window of the attention, if it has one."""
    if options.tiny:
        return [*((shape, None) for shape in TINY), (TINY[-1], (3, 3))]
    return [*((shape, None) for shape in SHAPES), (SHAPES[-1], WINDOW)]


def inputs(shape: tuple[int, int], window: tuple[int, int] | None, options: argparse.Namespace, dtype: torch.dtype) -> Inputs:
    """Random ones, all frames valid."""
    (batch, frames), heads, width = shape, options.heads, options.width
    generator = torch.Generator().manual_seed(0)

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator).to(options.device, dtype)

    before, after = window or (frames - 1, frames - 1)
    given: Inputs = {name: draw(batch, frames, heads, width) for name in ("q", "k", "v")}
    given |= {"p": draw(before + after + 1, heads, width), "u": draw(heads, width), "v_bias": draw(heads, width)}
    i = torch.arange(frames, device=options.device)
    given["rows"] = None if window is None else torch.stack([i - before, i + after + 1])
    return given | {"reach": (before, after)}


# --- Parity


def compare(sides: dict[str, Attention], options: argparse.Namespace) -> None:
    """Outputs and gradients of each against the formula in float64, with padding.

    Raises:
        SystemExit: one differs.
    """
    batch, frames = (2, 9) if options.tiny else (3, 333)
    dtype = getattr(torch, options.dtype)
    given = inputs((batch, frames), None, options, dtype)
    given["keys"] = torch.tensor([[0] * batch, [frames, frames // 2, 1][:batch]], device=options.device)
    exact = {name: one.double() if torch.is_tensor(one) and one.is_floating_point() else one for name, one in given.items()}
    truth = differentiate(sides["reference"], exact)
    for name, attend in sides.items():
        found = differentiate(attend, given)
        errors = {one: float((found[one].double() - truth[one]).norm() / truth[one].norm()) for one in truth}
        worst = max(errors, key=lambda one: errors[one])
        print(
            f"{name:9} {options.dtype}: largest error {errors[worst]:.1e} ({worst}), of the outputs {errors['out']:.1e}",
            flush=True,
        )
        if errors[worst] > (1e-4 if options.dtype == "float32" else 3e-2) or math.isnan(errors[worst]):
            raise SystemExit(f"{name} differs from the formula: {errors}; nothing is timed")


def differentiate(attend: Attention, given: Inputs) -> dict[str, Tensor]:
    """The outputs, and the gradients of all inputs that have one."""
    leaves = {
        name: one.detach().requires_grad_() for name, one in given.items() if torch.is_tensor(one) and one.is_floating_point()
    }
    out = attend(**given | leaves)
    found = torch.autograd.grad(out, list(leaves.values()), leaves["q"].detach())  # as random as any
    return {"out": out.detach(), **dict(zip(leaves, found, strict=True))}


# --- Time and memory


def measure(
    sides: dict[str, Attention], shape: tuple[int, int], window: tuple[int, int] | None, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Rows of one shape: forward, and forward with the gradients."""
    given = inputs(shape, window, options, getattr(torch, options.dtype))
    rows = []
    for backward in (False, True):
        what = f"attention, {shape[0]} x {shape[1]}{f', window {window}' if window else ''}{', with gradients' * backward}"
        found = {name: timed(step(attend, given, backward), shape[1], options) for name, attend in sides.items()}
        foretold = {name: predict(name, shape, window, backward, options) for name in sides}
        rows.append({"what": "attention", "label": what, "dtype": options.dtype, "sides": found, "predicted": foretold})
        for name, one in found.items():
            print(f"{what:46} {name:9} {shown(one)}  predicted {1000 * foretold[name]:.3f} ms", flush=True)
    return rows


def step(attend: Attention, given: Inputs, backward: bool) -> Callable[[], Any]:
    """What is timed."""
    if backward:
        return lambda: differentiate(attend, given)

    def forward() -> Tensor:
        with torch.no_grad():
            return attend(**given)

    return forward


def timed(run: Callable[[], Any], frames: int, options: argparse.Namespace) -> dict[str, float] | None:
    """The median and percentiles of its seconds and its memory in GiB, or None where that does not fit."""
    try:
        run()
        if options.device == "cpu":
            return spread([seconds_of(run) for _ in range(1 if options.tiny else options.runs)]) | {"gib": 0.0}
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        gib = (torch.cuda.max_memory_allocated() - before) / 2**30
        once = captured(run) if frames <= GRAPH_UP_TO else run
        first = seconds_on_gpu(once)
        return spread([seconds_on_gpu(once) for _ in range(max(3, min(options.runs, int(3 / max(first, 1e-6)))))]) | {"gib": gib}
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return None


def captured(run: Callable[[], Any]) -> Callable[[], Any]:
    """The same as one graph, so that starting its programs takes no time of its own."""
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def seconds_on_gpu(run: Callable[[], Any]) -> float:
    """Of one run, after what other runs left in the cache was driven out."""
    torch.empty(2**26, dtype=torch.int32, device="cuda").zero_()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end) / 1000)


def seconds_of(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def spread(seconds: list[float]) -> dict[str, float]:
    """The median and the 20th and 80th percentile."""
    ordered = sorted(seconds)
    low, high = (ordered[min(len(ordered) - 1, int(part * len(ordered)))] for part in (0.2, 0.8))
    return {"seconds": statistics.median(ordered), "20": low, "80": high}


def shown(one: dict[str, float] | None) -> str:
    if one is None:
        return "does not fit"
    times = f"{1000 * one['seconds']:.3f} ms ({1000 * one['20']:.3f} to {1000 * one['80']:.3f})"
    return times + (f", {one['gib']:.2f} GiB" if one.get("gib") else "")


def predict(
    name: str, shape: tuple[int, int], window: tuple[int, int] | None, backward: bool, options: argparse.Namespace
) -> float:
    """Seconds, as the docstring of this file says."""
    (batch, frames), size = shape, 4 if options.dtype == "float32" else 2
    pairs = batch * options.heads * frames * (frames if window is None else min(frames, sum(window) + 1))
    line = batch * options.heads * frames * options.width * size  # bytes of the queries
    total = 0.0
    for way in range(1 + backward):
        operations = 2 * PRODUCTS[name][way] * pairs * options.width
        moved = SCORES[name][way] * pairs * size + (4, 9)[way] * line
        total += max(operations / options.tflops / 1e12, moved / options.tbps / 1e12) / REACHED[name][way]
    return total


def gpu(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "none"


# --- A training step


def train(sides: dict[str, Attention], options: argparse.Namespace) -> list[dict[str, Any]]:
    """A step of an encoder of 110 million parameters on 16 recordings of 15 seconds, with each backend: bfloat16 by autocast."""
    size = {"d_model": 512, "n_heads": 8, "n_layers": 17} if not options.tiny else {"d_model": 32, "n_heads": 4, "n_layers": 1}
    batch, frames = (2, 64) if options.tiny else (16, 1500)
    found = {}
    for name in [one for one in sides if options.device == "cuda" or one != "triton"]:
        given = {"name": "fastconformer", "dropout": 0.0, "dropout_pre_encoder": 0.0, "attention_backend": name} | size
        torch.manual_seed(0)
        encoder = (
            instantiate(config.fill_section("encoder", given, "encoder"), "encoder", {"d_in": 80}).to(options.device).train()
        )
        optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-4)
        feats = torch.randn(batch, frames, 80, device=options.device)
        lens = torch.full((batch,), frames, device=options.device)

        def learn(encoder: Any = encoder, optimizer: Any = optimizer, feats: Tensor = feats, lens: Tensor = lens) -> None:
            with torch.autocast(options.device, torch.bfloat16):
                encoded, _ = encoder(feats, lens)
            encoded.float().square().mean().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        found[name] = timed(learn, GRAPH_UP_TO + 1, options)
        seconds = found[name]["seconds"] if found[name] else math.inf
        print(
            f"training step of {size} {name:9} {shown(found[name])}, {batch * frames / 100 / seconds:.0f} times real time",
            flush=True,
        )
    what = f"training step, {batch} x {frames / 100:g} s"
    return [{"what": "attention", "label": what, "dtype": "bfloat16", "sides": found, "predicted": {}}]


# --- Tiles


def tune(options: argparse.Namespace) -> None:
    """Times the kernel with several tiles of one program at a time, the other programs as they are."""
    backend = import_module(TRITON)
    tiles = import_module("sonant_encoders.kernels.rel_pos_attention.tiles")
    chosen, shape = tiles.tile, (TINY[-1] if options.tiny else (8, 1500))
    given = inputs(shape, None, options, getattr(torch, options.dtype))
    for program in tiles.PROGRAMS:
        for tile in candidates(tiles.Tile, program, tiny=options.tiny):

            def choose(name: str, *rest: Any, tile: Any = tile, program: str = program) -> Any:
                return tile if name == program else chosen(name, *rest)

            backend.tile = choose
            try:
                found = timed(step(backend.rel_pos_attention, given, program != "attend"), shape[1], options)
                print(f"{program:12} {tile}: {shown(found)}", flush=True)
            except Exception as error:  # one that a GPU has no room for
                print(f"{program:12} {tile}: does not run: {str(error).splitlines()[0][:100]}", flush=True)
    backend.tile = chosen


def candidates(make: Any, program: str, *, tiny: bool) -> list[Any]:
    """Tiles to try."""
    if tiny:
        return [make(16, 16)]
    sizes = [(64, 64), (64, 32), (32, 32), (32, 16)]
    sizes += [(128, 64)] if program in ("attend", "of_queries") else [(64, 16), (128, 32)]
    return [make(*size, warps, stages) for size in sizes for warps in (4, 8) for stages in (1, 2, 3)]


if __name__ == "__main__":
    main()
