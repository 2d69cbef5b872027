"""What encoders say they need for a long recording is what they need, a little more rather than less."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys
import torch
from sonant.build import instantiate
from sonant.config import fill_section
torch.set_num_threads(1)
section, frames, options = json.loads(sys.argv[1])
encoder = instantiate(fill_section("encoder", section, "encoder"), "encoder", {"d_in": 16}).eval()
feats = torch.randn(1, frames, 16)

def held(name):
    return int(dict(line.split(":", 1) for line in open("/proc/self/status"))[name].split()[0]) * 1024

with torch.inference_mode():
    encoder(feats[:, :400], torch.tensor([400]))
    before = held("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")
    out = encoder(feats, torch.tensor([frames]), **options)
print(json.dumps([held("VmHWM") - before, encoder.memory(frames, **options)]))
"""
SIZES = {"n_layers": 1, "d_model": 192, "n_heads": 4, "subsampling_factor": 2, "subsampling_conv_channels": 4}
WIDE = {"name": "fastconformer", **SIZES}
BLOCKS = [
    {"filters": 192, "kernel": 11, "stride": 2, "separable": True},
    {"filters": 192, "kernel": 11, "separable": True, "repeat": 2, "residual": True},
]


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
@pytest.mark.parametrize(
    ("section", "frames", "options"),
    [
        (WIDE, 12_000, {}),
        (WIDE, 60_000, {"att_context_size": [64, 64]}),
        ({**WIDE, "self_attention_model": "rel_pos_local_attn", "att_context_size": [32, 32]}, 60_000, {}),
        ({"name": "convolutional", "blocks": BLOCKS}, 100_000, {}),
    ],
    ids=["full", "window", "local", "convolutional"],
)
def test_the_estimate_is_above_the_peak_and_near_it(section: object, frames: int, options: object) -> None:
    arguments = json.dumps([section, frames, options])
    answer = subprocess.run([sys.executable, "-c", SCRIPT, arguments], capture_output=True, text=True, check=True)
    peak, estimate = json.loads(answer.stdout)
    assert peak < estimate < 4 * peak + 2**28
