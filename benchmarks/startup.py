"""How long until the first word, and how much has to be installed: Sonant and NeMo, turn by turn.

    python benchmarks/startup.py --against ENV/bin/python

Times whole processes: the bare import, the command line's help, and the transcription of a three-second recording with a tiny
checkpoint that both open. Counts the packages of each environment (run Sonant in one that holds nothing else).
Appends a row to `benchmarks/results.jsonl`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from sides import about

HERE = Path(__file__).parent
CASES = HERE.parent / "tests" / "nemo-cases"
CHECKPOINT, RECORDING = str(CASES / "fastconformer_tdt_bpe.nemo"), str(CASES / "a.wav")

NEMO = f"""
from nemo.collections.asr.models import ASRModel
model = ASRModel.restore_from({CHECKPOINT!r}, map_location="cpu").eval()
print(model.transcribe([{RECORDING!r}], verbose=False)[0].text)
"""
COUNT = """
import importlib.metadata as m
names = {d.name.lower().replace("_", "-") for d in m.distributions()}
print(len({n for n in names if n not in ("pip", "setuptools", "wheel") and not n.startswith(("nvidia-", "cuda-", "triton"))}))
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", required=True, help="the Python of an environment that has NeMo")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    ours, theirs = sys.executable, options.against
    command = str(Path(ours).with_name("sonant"))
    tasks = {
        "import": ([ours, "-c", "import sonant"], [theirs, "-c", "import nemo.collections.asr"]),
        "import torch alone": ([ours, "-c", "import torch"], [theirs, "-c", "import torch"]),
        "--help": ([command, "--help"], None),
        "plugins": ([command, "plugins"], None),
        "transcribe 3 s": ([command, "transcribe", RECORDING, "--model", CHECKPOINT], [theirs, "-c", NEMO]),
    }
    row = {"what": "startup", "seconds": {}, "packages": {}}
    for name, sides in tasks.items():
        times: dict[str, list[float]] = {"sonant": [], "nemo": []}
        for _ in range(options.runs):
            for side, arguments in zip(times, sides, strict=True):
                if arguments is not None:
                    times[side].append(_seconds(arguments))
        medians = {side: round(statistics.median(t), 3) for side, t in times.items() if t}
        row["seconds"][name] = medians
        print(f"{name:20}" + "  ".join(f"{side} {m:.2f} s" for side, m in medians.items()), flush=True)
    for side, python in (("sonant", ours), ("nemo", theirs)):
        row["packages"][side] = int(subprocess.run([python, "-c", COUNT], capture_output=True, text=True, check=True).stdout)
    print("packages            " + "  ".join(f"{side} {n}" for side, n in row["packages"].items()))
    with (HERE / "results.jsonl").open("a") as file:
        file.write(json.dumps(row | about()) + "\n")


def _seconds(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(arguments, capture_output=True, check=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
