"""How much audio a loader reads and perturbs in a second of one processor, without a model.

    python benchmarks/data_loading.py [MANIFEST]

Without a manifest, ten minutes of MP3 at 22,050 Hz are made up. Each row is a config: the first time through, and the last, when
what a cache keeps is there. Seconds of audio, after perturbation, by seconds of the processor, so that a busy machine does not
matter much.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor

from sonant.config import fill
from sonant.training import Example
from sonant_training.data.config import DataConfig
from sonant_training.data.loading import training_batches

RATE, EPOCHS = 16000, 8


class Waveforms:
    """A task that only pads."""

    def prepare(self, example: Example) -> Tensor:
        return torch.from_numpy(example.samples)

    def collate(self, prepared: Sequence[Tensor]) -> Tensor:
        return torch.nn.utils.rnn.pad_sequence(list(prepared), batch_first=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", nargs="?", type=Path)
    given = parser.parse_args().manifest
    torch.set_num_threads(1)
    with TemporaryDirectory() as name:
        folder = Path(name)
        manifest = given.resolve() if given else make_corpus(folder)
        for title, values in configs(folder).items():
            speeds = measure(manifest, folder, values)
            print(f"{title:32}  first {speeds[0]:7,.0f}   last {speeds[-1]:7,.0f}")


def configs(folder: Path) -> Mapping[str, dict[str, Any]]:
    random = np.random.default_rng(0)
    for name, length, decay in (("noise", 60.0, 1e9), ("rir", 0.5, 1200.0)):
        (folder / name).mkdir()
        count = int(length * RATE)
        soundfile.write(folder / name / "a.wav", 0.2 * random.standard_normal(count) * np.exp(-np.arange(count) / decay), RATE)
    speed = {"speed": [0.9, 1.0, 1.1]}
    sounds = {"noise": {"manifest_filepath": "noise"}, "rir": {"manifest_filepath": "rir"}}
    return {
        "as it is": {},
        "speed": {"perturb": speed},
        "cache": {"cache": True},
        "cache, speed": {"cache": True, "perturb": speed},
        "cache, speed, volume": {"cache": True, "perturb": speed | {"volume_db": [-6, 6]}},
        "cache, speed, room, noise": {"cache": True, "perturb": speed | sounds},
    }


def measure(manifest: Path, folder: Path, values: Mapping[str, Any]) -> list[float]:
    config = fill(DataConfig, {"manifest_filepath": str(manifest), "batch_duration": 100, "num_workers": 0, **values}, "train_ds")
    speeds: list[float] = []
    seconds, begun = 0.0, time.process_time()
    for loaded in training_batches(config, task=Waveforms(), sample_rate=RATE, seed=0, folder=folder):
        if loaded.epoch > len(speeds):
            speeds.append(seconds / (time.process_time() - begun))
            seconds, begun = 0.0, time.process_time()
        if loaded.epoch == EPOCHS:
            break
        seconds += loaded.seconds
    return speeds


def make_corpus(folder: Path) -> Path:
    random = np.random.default_rng(1)
    rows = []
    for number in range(200):
        length = float(random.uniform(1, 5))
        samples = 0.1 * np.cumsum(random.standard_normal(int(length * 22050))) / 30
        soundfile.write(folder / f"{number}.mp3", np.clip(samples, -1, 1), 22050)
        rows.append(json.dumps({"audio_filepath": f"{number}.mp3", "text": "", "duration": length}))
    (folder / "made.jsonl").write_text("\n".join(rows))
    return folder / "made.jsonl"


if __name__ == "__main__":
    main()
