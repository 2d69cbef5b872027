"""What the record holds of one checkpoint: `sonant bench` against NeMo, the encoder on noise and a folder of clips end to end.

    python benchmarks/side_by_side.py MODEL.nemo --against ENV/bin/python [--clips FOLDER] [--dtype float32,bfloat16]

MODEL.nemo is any checkpoint both can open; `benchmarks/make_checkpoint.py` makes one of the size of parakeet-tdt-0.6b with
random weights. `--against` is the Python of an environment that has NeMo. Appends to `benchmarks/results.jsonl`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from sides import HERE


def main() -> None:
    """Run the measurements that the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--against", required=True)
    parser.add_argument("--rivals", default="nemo", help="with commas between")
    parser.add_argument("--clips", help="a folder of recordings to transcribe")
    parser.add_argument("--label", default="", help="what to call the model in the record")
    parser.add_argument("--dtype", default="float32,bfloat16")
    parser.add_argument("--seconds", default="10,30")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--runs", default="5")
    parser.add_argument("--batch-size", default="16")
    options = parser.parse_args()
    how = ["--against", options.rivals, "--env", options.against, "--threads", options.threads, "--repeat", options.runs]
    how += ["--label", options.label, "--output", str(HERE / "results.jsonl")]
    sonant = str(Path(sys.executable).with_name("sonant"))
    noise = ["--part", "encoder", "--seconds", options.seconds, "--dtype", options.dtype]
    subprocess.run([sonant, "bench", options.model, *how, *noise], check=True)
    if options.clips:
        clips = [options.clips, "--part", "files", "--batch", options.batch_size, "--dtype", "float32"]
        subprocess.run([sonant, "bench", options.model, *how, *clips], check=True)


if __name__ == "__main__":
    main()
