"""The losses of the first training steps on both sides, from the same weights and batches, without dropout and augmentation.

    python benchmarks/training_parity.py MODEL.nemo --against ENV/bin/python [--write CURVE.json]

Prints the largest difference. MODEL.nemo is a CTC model; `--write` keeps NeMo's losses, as `tests/test_training_parity.py` reads.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from sides import Worker


def main() -> None:
    """Train on both sides, turn by turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--against", required=True)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--labels", type=int, default=96)
    parser.add_argument("--size", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=2.5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    shape = {"size": options.size, "seconds": options.seconds, "labels": options.labels}
    sides = {
        "sonant": Worker(sys.executable, "sonant_training_worker.py", options.threads),
        "nemo": Worker(options.against, "nemo_training_worker.py", options.threads),
    }
    for side in sides.values():
        side.ask("start", file=options.model, rate=options.rate, dropout=0.0, augment=False)
    losses: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(options.steps):
        for name, side in sides.items():
            losses[name].append(side.ask("step", number=number, **shape)["value"])
    differences = [abs(a - b) for a, b in zip(*losses.values(), strict=True)]
    for number in range(0, options.steps, 10):
        print(f"step {number:3}  " + "  ".join(f"{name} {losses[name][number]:.5f}" for name in sides))
    relative = max(d / b for d, b in zip(differences, losses["nemo"], strict=True))
    print(f"largest difference {max(differences):.2e}, relative {relative:.2e}")
    if options.write:
        record = {"versions": sides["nemo"].versions, "rate": options.rate, **shape, "losses": losses["nemo"]}
        options.write.write_text(json.dumps(record, indent=1) + "\n")
    for side in sides.values():
        side.close()


if __name__ == "__main__":
    main()
