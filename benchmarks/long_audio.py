"""Hours of audio in one recording: how fast each mode is, and how much memory it takes.

    python benchmarks/long_audio.py MODEL [--minutes 10 60 180] [--modes full local chunks] [--threads 2] [--clips FOLDER]

MODEL is whatever `sonant.load` takes; `benchmarks/make_checkpoint.py` makes one of a published size with random weights. Each
measurement runs in a process of its own. Without clips the recording is noise that comes and goes. Prints a table, and appends
to `benchmarks/results.jsonl`: the real-time factor (computing time over audio time), the peak of the process's memory, and that
beyond what it held before.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from sides import HERE, about

RATE = 16000


def recording(target: Path, minutes: float, clips: Path | None) -> None:
    """A 16-bit wav file of that length, written minute by minute."""
    draw = np.random.default_rng(0)
    sounds = [soundfile.read(file, dtype="float32")[0] for file in sorted(clips.glob("*.wav"))] if clips else []
    with soundfile.SoundFile(target, "w", RATE, 1, "PCM_16") as file:
        for _ in range(round(minutes)):
            if sounds:
                minute = np.concatenate([sounds[n] for n in draw.integers(len(sounds), size=60)])[: 60 * RATE]
                minute = np.pad(minute, (0, 60 * RATE - len(minute)))
            else:
                loud = np.interp(np.arange(60 * RATE), np.arange(0, 60 * RATE + 1, RATE // 4), draw.uniform(0, 0.2, 241))
                minute = draw.standard_normal(60 * RATE) * loud
            file.write(minute)


def measure(model: str, file: str, mode: str, threads: int) -> None:
    """In a process of its own: load, transcribe, say how long it took and what it held at most."""
    import torch

    import sonant

    torch.set_num_threads(threads)
    recognizer: Any = sonant.load(model)
    device = next(recognizer.parameters()).device
    before = _held(device, "VmRSS")
    _forget_peak(device)
    start = time.perf_counter()
    (found,) = recognizer.transcribe(file, chunking=mode)
    elapsed = time.perf_counter() - start
    peak = _held(device, "VmHWM")
    print(json.dumps({"seconds": elapsed, "audio": found.duration, "peak": peak, "beyond": peak - before, "device": str(device)}))


def _held(device: Any, name: str) -> int:
    """Bytes, by the name Linux gives them; on a GPU those of its own memory."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device) if name == "VmHWM" else torch.cuda.memory_allocated(device))
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[name].split()[0]) * 1024


def _forget_peak(device: Any) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    """Run the measurements that the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--minutes", nargs="+", type=float, default=[10, 60, 180])
    parser.add_argument("--modes", nargs="+", default=["full", "local", "chunks"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clips", type=Path, help="a folder of wav files at 16 kHz to put the recording together from")
    parser.add_argument("--label", default="", help="what to call the model in the record")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.model, options.measure, options.modes[0], options.threads)
        return
    print("| minutes | mode | real-time factor | peak GiB | beyond the model GiB |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for minutes in options.minutes:
            file = Path(folder) / f"{minutes:g}.wav"
            recording(file, minutes, options.clips)
            for mode in options.modes:
                command = [sys.executable, __file__, options.model, "--measure", str(file), "--modes", mode]
                done = subprocess.run([*command, "--threads", str(options.threads)], capture_output=True, text=True)
                if done.returncode:
                    reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
                    print(f"| {minutes:g} | {mode} | failed: {reason} | | |", flush=True)
                    continue
                row = json.loads(done.stdout.splitlines()[-1])
                factor, peak, beyond = row["seconds"] / row["audio"], row["peak"] / 2**30, row["beyond"] / 2**30
                print(f"| {minutes:g} | {mode} | {factor:.3f} | {peak:.2f} | {beyond:.2f} |", flush=True)
                found = {"minutes": minutes, "mode": mode, "real_time_factor": factor, "peak_gib": peak, "beyond_gib": beyond}
                facts = about() | {"threads": options.threads, "device": row["device"]}
                with (HERE / "results.jsonl").open("a") as record:
                    record.write(json.dumps({"what": "long", "label": options.label} | found | facts) + "\n")


if __name__ == "__main__":
    main()
