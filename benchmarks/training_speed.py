"""How many seconds of audio a second of training takes in, on both sides, in one run: from samples to changed weights.

    python benchmarks/make_checkpoint.py small.nemo small-ctc
    python benchmarks/training_speed.py small.nemo --against ENV/bin/python

Both open the same CTC model and take steps on the same batches in turn, with dropout and SpecAugment, with AdamW as each comes.
Prints the median and the best step of each side and the ratio, above 1 where Sonant is the faster.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from typing import Any

import numpy as np
from sides import HERE, Worker, about

sys.path.append(str(HERE / "workers"))


def main() -> None:
    """Train on both sides, turn by turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--against", required=True)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--size", type=int, default=16, help="recordings of a batch")
    parser.add_argument("--seconds", type=float, default=2.5, help="the longest of them")
    parser.add_argument("--labels", type=int, default=96)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--label", default="", help="what to call the model in the record")
    options = parser.parse_args()
    shape = {"size": options.size, "seconds": options.seconds, "labels": options.labels}
    sides = {
        "sonant": Worker(sys.executable, "sonant_training_worker.py", options.threads),
        "nemo": Worker(options.against, "nemo_training_worker.py", options.threads),
    }
    sizes = {
        side.ask("start", file=options.model, rate=1e-4, dropout=options.dropout, augment=True)["value"]
        for side in sides.values()
    }
    assert len(sizes) == 1, f"the two sides do not have the same number of parameters: {sizes}"
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(2 + options.steps):
        for name, side in sides.items():
            seconds = side.ask("step", number=number, **shape)["seconds"]
            if number >= 2:  # the first two warm up
                times[name].append(seconds)
    audio = [_seconds_of(2 + step, shape) for step in range(options.steps)]
    row = _row(f"{options.label} train {sizes.pop() / 1e6:.0f}M".strip(), times, audio)
    record = row | about() | {"threads": options.threads, "versions": {name: side.versions for name, side in sides.items()}}
    with (HERE / "results.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")
    for side in sides.values():
        side.close()


def _seconds_of(step: int, shape: dict[str, Any]) -> float:
    from _lessons import RATE, lesson

    return float(np.sum(lesson(step, **shape)["lens"])) / RATE


def _row(what: str, times: dict[str, list[float]], audio: list[float]) -> dict[str, Any]:
    speeds = {name: [a / t for a, t in zip(audio, found, strict=True)] for name, found in times.items()}
    medians = {name: statistics.median(found) for name, found in speeds.items()}
    best = {name: max(found) for name, found in speeds.items()}
    for name in speeds:
        print(f"{what} | {name:7} {medians[name]:6.1f} audio seconds per second, best step {best[name]:6.1f}")
    print(f"ratio {medians['sonant'] / medians['nemo']:.2f} of medians, {best['sonant'] / best['nemo']:.2f} of best steps")
    return {
        "what": what,
        "dtype": "float32",
        "seconds": {name: statistics.median(found) for name, found in times.items()},
        "ratio": medians["sonant"] / medians["nemo"],
        "times_real_time": medians,
        "note": f"ratio of the best steps {best['sonant'] / best['nemo']:.2f}",
    }


if __name__ == "__main__":
    main()
