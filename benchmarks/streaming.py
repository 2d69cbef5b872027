"""One live stream on both sides: the same checkpoint, the same recording, step by step, turn by turn in one run.

    python benchmarks/streaming.py MODEL.nemo RECORDING.wav --against ENV/bin/python [--contexts 70,1 70,13]

MODEL.nemo is a cache-aware streaming model; `benchmarks/make_checkpoint.py OUT.nemo streaming-rnnt-0.6b` makes one. Prints for
each context how long a step takes (median, 95 %), beside how much audio it brings: a side keeps up if it takes less. NeMo's
steps do not include the features, which its buffer makes of the whole recording beforehand; Sonant's do. Appends to
`benchmarks/results.jsonl`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from typing import Any

from sides import HERE, Worker, about


def main() -> None:
    """Run the measurements that the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("recording")
    parser.add_argument("--against", required=True)
    parser.add_argument("--contexts", nargs="+", default=["70,0", "70,1", "70,6", "70,13"], help="LEFT,RIGHT in encoder frames")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    sides = {
        "sonant": Worker(sys.executable, "sonant_streaming_worker.py", options.threads),
        "nemo": Worker(options.against, "nemo_streaming_worker.py", options.threads),
    }
    for side in sides.values():
        side.ask("load", file=options.model, dtype="float32", device="cpu")
    facts = about() | {"threads": options.threads, "versions": {name: side.versions for name, side in sides.items()}}
    for context in options.contexts:
        row = _measure(sides, options.recording, [int(n) for n in context.split(",")], options.runs)
        with (HERE / "results.jsonl").open("a") as file:
            file.write(json.dumps(row | facts) + "\n")
    for side in sides.values():
        side.close()


def _measure(sides: dict[str, Worker], recording: str, context: list[int], runs: int) -> dict[str, Any]:
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for _ in range(runs + 1):
        for name, side in sides.items():
            answers[name].append(side.ask("stream", file=recording, context=context)["value"])
    # The first run warms up; the first step of a recording is larger than the others, the last smaller.
    steps = {name: [s for a in found[1:] for s in a["seconds"][1:-1]] for name, found in answers.items()}
    medians = {name: statistics.median(s) for name, s in steps.items()}
    late = {name: sorted(s)[int(0.95 * len(s))] for name, s in steps.items()}
    words = {name: found[-1]["text"].split() for name, found in answers.items()}
    audio = 0.08 * (context[1] + 1)
    note = f"{'same' if words['sonant'] == words['nemo'] else 'other'} words ({len(words['sonant'])})"
    print(f"context {context}: each step brings {audio:.2f} s of audio and takes", end=" ")
    print(", ".join(f"{name} {medians[name]:.3f} s (95 %: {late[name]:.3f} s)" for name in sides), end=" | ")
    print(f"ratio {medians['nemo'] / medians['sonant']:.2f} | {note}", flush=True)
    return {
        "what": f"stream, step of {audio:.2f} s",
        "dtype": "float32",
        "seconds": medians,
        "ratio": medians["nemo"] / medians["sonant"],
        "late": late,
        "times_real_time": {name: audio / m for name, m in medians.items()},
        "note": note,
    }


if __name__ == "__main__":
    main()
