"""What the same minutes of training make of the same model on both sides: words wrong on a manifest that was not trained on.

    python benchmarks/training_minutes.py START.nemo --train TRAIN.jsonl --test TEST.jsonl --against ENV/bin/python [--minutes 10]

Both begin with the weights, dropout and SpecAugment of the checkpoint and train by their own loop, as a user would start it, one
after the other on all threads: batches of as many examples in an order of their own, AdamW at the same constant rate, gradients
clipped at 1. The clock runs while they train, not while they start. Sonant then counts the words that each result gets wrong;
the manifests name WAV files of 16 kHz, so that neither side converts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from sides import HERE, about

import sonant

SONANT = str(Path(sys.executable).with_name("sonant"))


def main() -> None:
    """Train on both sides, count on one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    for name in ("--train", "--test", "--against"):
        parser.add_argument(name, required=True)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--size", type=int, default=16, help="examples of a batch")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        before = _words_wrong(options.model, options.test, Path(folder) / "before")
        print(f"before | words wrong {before['wer']:6.2%}  characters wrong {before['cer']:6.2%}", flush=True)
        found = {}
        for name, side in (("nemo", _nemo), ("sonant", _sonant)):
            steps, versions = side(options, Path(folder))
            errors = _words_wrong(f"{folder}/{name}.nemo", options.test, Path(folder) / name)
            found[name] = errors | {"steps": steps, "versions": versions}
            print(
                f"{name:6} | {steps} steps, words wrong {errors['wer']:6.2%}  characters wrong {errors['cer']:6.2%}", flush=True
            )
    record = {"what": "training minutes", "minutes": options.minutes, "threads": options.threads, "before": before}
    with (HERE / "results.jsonl").open("a") as file:
        file.write(json.dumps(record | {"sides": found} | about()) + "\n")


def _nemo(options: argparse.Namespace, folder: Path) -> tuple[int, dict[str, str]]:
    given = {name: getattr(options, name) for name in ("model", "train", "minutes", "rate", "size", "threads")}
    flags = [f"--{name}={value}" for name, value in given.items()]
    output = _run([options.against, str(HERE / "workers" / "nemo_minutes.py"), *flags, f"--output={folder / 'nemo.nemo'}"])
    answer = json.loads(output.splitlines()[-1])
    return answer["steps"], answer["versions"]


def _sonant(options: argparse.Namespace, folder: Path) -> tuple[int, dict[str, str]]:
    config = folder / "tune.yaml"
    data = {"manifest_filepath": str(Path(options.train).absolute()), "batch_size": options.size}
    text = {
        "init": {"from": str(Path(options.model).absolute())},
        "train_ds": data,
        "loss": {"name": "ctc", "zero_infinity": True},
        "optim": {"name": "adamw", "lr": options.rate, "betas": [0.9, 0.98], "weight_decay": 0.01},
        "trainer": {"max_steps": 10**6, "accelerator": "cpu", "gradient_clip_val": 1.0},
        "exp_manager": {"exp_dir": str(folder), "name": "run", "max_time_per_run": _clock(options.minutes), "save_nemo": True},
    }
    config.write_text(json.dumps(text))  # which is YAML too
    _run([SONANT, "train", str(config)], OMP_NUM_THREADS=str(options.threads))
    rows = [json.loads(line) for line in (folder / "run" / "version_0" / "metrics.jsonl").read_text().splitlines()]
    _run([SONANT, "convert", str(folder / "run" / "version_0" / "model"), str(folder / "sonant.nemo")])
    import torch

    return rows[-1]["step"], {"name": f"sonant {sonant.__version__}", "torch": torch.__version__}


def _clock(minutes: float) -> str:
    seconds = round(60 * minutes)
    return f"00:{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _words_wrong(model: str, manifest: str, output: Path) -> dict[str, Any]:
    _run([SONANT, "evaluate", manifest, "--model", model, "--output", str(output)])
    scores = json.loads((output / "scores.json").read_text())
    return {short: scores[name]["error_rate"] for short, name in (("wer", "words"), ("cer", "characters"))}


def _run(command: list[str], **environment: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return done.stdout


if __name__ == "__main__":
    main()
