"""What an hour needs beyond ten minutes is its samples, features and encoder frames, and nothing that is computed of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

RATE, STRIDE, BINS, WIDTH, SUBSAMPLING = 4000, 0.04, 40, 64, 2
LABELS = [" ", *(chr(code) for code in range(0x4E00, 0x4E00 + 3000))]
CONFIG = {
    "task": "asr",
    "preprocessor": {"name": "log_mel", "sample_rate": RATE, "window_size": 0.064, "window_stride": STRIDE, "features": BINS},
    "tokenizer": {"name": "char", "labels": LABELS},
    "encoder": {
        "name": "fastconformer",
        "n_layers": 2,
        "d_model": WIDTH,
        "n_heads": 4,
        "subsampling_factor": SUBSAMPLING,
        "subsampling_conv_channels": 4,
    },
    "decoder": {"name": "ctc"},
}
# Every larger block is mapped by itself and given back when freed: without this the C library raises its own threshold
# as it goes and keeps freed tensors in its heap, and the peak would tell how that heap happened to be cut up.
ALLOCATION = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
SCRIPT = """
import json, sys
import numpy as np, torch
import sonant
torch.set_num_threads(1)
config, mode, *lengths = sys.argv[1:]
torch.manual_seed(0)
model = sonant.load(config, device="cpu", dtype="float32")
noise = np.random.default_rng(0)
peaks = []
for minutes in [1, *map(int, lengths)]:
    samples = noise.standard_normal(minutes * 60 * model.sample_rate, dtype=np.float32)
    open("/proc/self/clear_refs", "w").write("5")  # forget the peak so far
    model.transcribe(samples, chunking=mode)
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    peaks.append(int(status["VmHWM"].split()[0]) * 1024)
print(json.dumps(peaks[1:]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
@pytest.mark.parametrize("mode", ["local", "chunks"])
def test_memory_is_flat(tmp_path: Path, mode: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    answer = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(config), mode, "10", "60"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | ALLOCATION,
    )
    ten, sixty = json.loads(answer.stdout)
    frames = 50 * 60 / STRIDE
    samples, features, vectors = 50 * 60 * RATE * 4, frames * BINS * 4, frames / SUBSAMPLING * WIDTH * 4
    layer = 10 * vectors  # what a feed-forward module alone needs, all at once
    scores = frames / SUBSAMPLING * len(LABELS) * 4  # of all labels at all frames
    allowed = 1.25 * samples + 2 * features + 3 * vectors + 2**25
    assert allowed < samples + features + layer and allowed < scores / 2
    assert sixty - ten < allowed
