"""Sonant and NeMo on the same machine, the same checkpoint and the same input, turn by turn in one run.

    python benchmarks/side_by_side.py MODEL.nemo --against ENV/bin/python [--clips FOLDER] [--dtype float32 bfloat16]

MODEL.nemo is any checkpoint both can open; `benchmarks/make_checkpoint.py` makes one of the size of parakeet-tdt-0.6b with
random weights. `--against` is the Python of an environment that has NeMo. Prints a table with the ratio of medians (above 1:
Sonant is faster) and appends a row for each measurement to `benchmarks/results.jsonl`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class Worker:
    """One side, in a process of its own."""

    def __init__(self, python: str, script: str, threads: int) -> None:
        self._process = subprocess.Popen(
            [python, str(HERE / "workers" / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        answer = self.ask("versions", threads=threads)
        self.versions, self.import_seconds = answer["value"], answer["seconds"]

    def ask(self, action: str, **arguments: Any) -> dict[str, Any]:
        """One request and its answer."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps({"do": action, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._process.args} ended without an answer to {action}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End it."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def main() -> None:
    """Run the measurements that the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--against", required=True)
    parser.add_argument("--clips", type=Path, help="a folder of wav files to transcribe")
    parser.add_argument("--label", default="", help="what to call the model in the record; none is the usual one")
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--seconds", nargs="+", type=int, default=[10, 30])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=16)
    options = parser.parse_args()
    rows = []
    for dtype in options.dtype:
        sides = {
            "sonant": Worker(sys.executable, "sonant_worker.py", options.threads),
            "nemo": Worker(options.against, "nemo_worker.py", options.threads),
        }
        loads = {name: side.ask("load", file=options.model, dtype=dtype) for name, side in sides.items()}
        assert loads["sonant"]["value"] == loads["nemo"]["value"], "the two sides do not have the same number of parameters"
        rows.append(
            _row("load", dtype, {n: [a["seconds"]] for n, a in loads.items()}, {n: a["peak_gib"] for n, a in loads.items()})
        )
        for seconds in options.seconds:
            rows.append(_encode(sides, seconds, dtype, options.runs))
        if options.clips and dtype == "float32":
            rows.append(_transcribe(sides, options.clips, options.batch_size, min(3, options.runs)))
        for row in rows:
            row["what"] = f"{options.label} {row['what']}".strip()
        _record(rows, sides, options)
        for side in sides.values():
            side.close()
        rows.clear()


def _encode(sides: dict[str, Worker], seconds: int, dtype: str, runs: int) -> dict[str, Any]:
    first = {name: side.ask("encode", seconds=seconds)["value"] for name, side in sides.items()}  # warm-up
    worst = max(abs(a - b) for a, b in zip(*first.values(), strict=True))
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(runs):
        for name, side in sides.items():
            times[name].append(side.ask("encode", seconds=seconds)["seconds"])
    return _row(f"encode {seconds} s", dtype, times, None, audio=seconds, note=f"largest difference of outputs {worst:.1e}")


def _transcribe(sides: dict[str, Worker], folder: Path, batch_size: int, runs: int) -> dict[str, Any]:
    import soundfile

    files = sorted(str(p) for p in folder.glob("*.wav"))
    audio = sum(soundfile.info(f).duration for f in files)
    for side in sides.values():
        side.ask("transcribe", files=files[:2], batch_size=2)  # warm-up
    answers = [
        {name: side.ask("transcribe", files=files, batch_size=batch_size) for name, side in sides.items()} for _ in range(runs)
    ]
    texts = [a["value"] for a in answers[0].values()]
    same = sum(a == b for a, b in zip(*texts, strict=True))
    times = {name: [a[name]["seconds"] for a in answers] for name in sides}
    peaks = {name: answers[-1][name]["peak_gib"] for name in sides}
    return _row(f"transcribe {len(files)} clips", "float32", times, peaks, audio=audio, note=f"same text: {same} of {len(files)}")


def _row(
    what: str,
    dtype: str,
    times: dict[str, list[float]],
    peaks: dict[str, float] | None,
    audio: float | None = None,
    note: str = "",
) -> dict[str, Any]:
    medians = {name: statistics.median(t) for name, t in times.items()}
    row = {"what": what, "dtype": dtype, "seconds": medians, "ratio": medians["nemo"] / medians["sonant"], "note": note}
    if audio is not None:
        row["times_real_time"] = {name: audio / m for name, m in medians.items()}
    if peaks is not None:
        row["peak_gib"] = peaks
    return row


def _record(rows: list[dict[str, Any]], sides: dict[str, Worker], options: argparse.Namespace) -> None:
    facts = about() | {"threads": options.threads, "versions": {name: side.versions for name, side in sides.items()}}
    with (HERE / "results.jsonl").open("a") as file:
        for row in rows:
            file.write(json.dumps(row | facts) + "\n")
    for row in rows:
        cells = [f"{row['what']:22} {row['dtype']:9}"]
        for name, seconds in row["seconds"].items():
            speed = f" ({row['times_real_time'][name]:.1f}x real time)" if "times_real_time" in row else ""
            peak = f" peak {row['peak_gib'][name]:.2f} GiB" if "peak_gib" in row else ""
            cells.append(f"{name} {seconds:.2f} s{speed}{peak}")
        print(" | ".join([*cells, f"ratio {row['ratio']:.2f}", row["note"]]), flush=True)


def about() -> dict[str, str]:
    """When and where a measurement was made."""
    return {"date": datetime.date.today().isoformat(), "machine": _machine(), "python": platform.python_version()}


def _machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        flags = next((line for line in lines if line.startswith("flags")), "")
        return f"{len(names)} cores, {names[0]}{', AMX' if 'amx_tile' in flags else ''}"
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
