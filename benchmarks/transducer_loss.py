"""The transducer loss, forward and back, on both sides: the same logits, turn by turn in one run.

    python benchmarks/transducer_loss.py [--against ENV/bin/python] [--device cuda]

Prints for each shape (utterances x frames x labels x vocabulary) the median and the 20th and 80th percentile of the milliseconds,
and on a GPU the most memory beside the logits, as a multiple of theirs. On a CPU NeMo's RNN-T loss is a loop in Python, shown
the smallest shape alone, and it has no TDT loss. Appends what was compared to `benchmarks/results.jsonl`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from typing import Any

from sides import HERE, Worker, about

TDT = [0, 1, 2, 3, 4]
SHAPES = {
    "cpu": [(2, 40, 20, 32), (8, 125, 60, 128), (8, 125, 40, 1024), (16, 60, 40, 1024)],
    "cuda": [(16, 125, 60, 1024), (16, 250, 80, 1024), (16, 125, 60, 8192), (8, 375, 120, 1024)],
}
SMALLEST = (2, 40, 20, 32)


def main() -> None:
    """Run the measurements that the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", help="the Python of an environment with NeMo")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", nargs="+", default=["float32"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    sides = {"sonant": _worker("sonant", sys.executable, options.threads)}
    if options.against:
        sides["nemo"] = _worker("nemo", options.against, options.threads)
    facts = about() | {"threads": options.threads, "versions": {name: side.versions for name, side in sides.items()}}
    for dtype in options.dtype:
        for shape in SHAPES[options.device]:
            for durations in ([], TDT):
                able = {n: s for n, s in sides.items() if n == "sonant" or _nemo_can(options.device, shape, durations)}
                row = _measure(able, shape, durations, dtype, options.device, options.runs)
                if len(row["seconds"]) > 1:
                    with (HERE / "results.jsonl").open("a") as file:
                        file.write(json.dumps(row | facts) + "\n")
    for side in sides.values():
        side.close()


def _worker(side: str, python: str, threads: int) -> Worker:
    os.environ["SIDE"] = side
    return Worker(python, "losses_worker.py", threads)


def _nemo_can(device: str, shape: tuple[int, ...], durations: list[int]) -> bool:
    return device == "cuda" or (shape == SMALLEST and not durations)


def _measure(
    sides: dict[str, Worker], shape: tuple[int, ...], durations: list[int], dtype: str, device: str, runs: int
) -> dict[str, Any]:
    how = {"shape": shape, "durations": durations, "dtype": dtype, "device": device, "runs": runs}
    found = {name: side.ask("measure", **how)["value"] for name, side in sides.items()}
    medians = {name: statistics.median(one["seconds"]) for name, one in found.items()}
    what = f"{'tdt' if durations else 'rnnt'} loss, {' x '.join(map(str, shape))}, {device}"
    print(f"{what}, {dtype}:", end=" ")
    for name, one in found.items():
        low, high = (sorted(one["seconds"])[int(part * len(one["seconds"]))] for part in (0.2, 0.8))
        print(f"{name} {1000 * medians[name]:.1f} ms ({1000 * low:.1f} to {1000 * high:.1f})", end="")
        print(f", memory {one['beside']:.2f} of the logits'" if device == "cuda" else "", end="; ")
    losses = [one["loss"] for one in found.values()]
    note = f"losses differ by {max(losses) - min(losses):.1e} of {losses[0]:.1f}"
    print(note if len(found) > 1 else "", flush=True)
    ratio = medians["nemo"] / medians["sonant"] if "nemo" in medians else None
    return {"what": what, "dtype": dtype, "seconds": medians, "ratio": ratio, "note": note}


if __name__ == "__main__":
    main()
