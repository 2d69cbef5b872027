"""What several processes tell of each other, over gloo on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from sonant.errors import ConfigError
from sonant_encoders.conformer.config import FastConformerConfig
from sonant_encoders.conformer.model import Conformer
from sonant_training.data.faults import Fault
from sonant_training.running.faults import Faults
from sonant_training.running.training import refusals

_OTHER = """
import sys
from pathlib import Path
from types import SimpleNamespace
from torch import distributed
from sonant_training.data.faults import Fault
from sonant_training.running.faults import Faults
folder = Path(sys.argv[1])
distributed.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=1, world_size=2)
callback = Faults(folder / "other.jsonl")
callback.known.add([Fault("train.jsonl:2", "2.wav", "it has no samples"), Fault("train.jsonl:9", "9.wav", "it is silent")])
callback.on_train_end(SimpleNamespace(is_global_zero=False), None)
distributed.destroy_process_group()
"""


def test_bad_examples_of_all_processes_are_listed_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = subprocess.Popen([sys.executable, "-c", _OTHER, str(tmp_path)], stderr=subprocess.PIPE, text=True)
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=2)
    try:
        callback = Faults(tmp_path / "left_out.jsonl")
        callback.known.add([Fault("train.jsonl:1", "1.wav", "it is silent"), Fault("train.jsonl:9", "9.wav", "it is silent")])
        trainer: Any = SimpleNamespace(is_global_zero=True)
        module: Any = None
        callback.on_train_end(trainer, module)
    finally:
        distributed.destroy_process_group()
        told = other.communicate(timeout=120)[1]
    assert other.returncode == 0, told
    rows = [json.loads(line) for line in (tmp_path / "left_out.jsonl").read_text("utf-8").splitlines()]
    assert [row["where"] for row in rows] == ["train.jsonl:1", "train.jsonl:9", "train.jsonl:2"]
    assert "3 examples were left out" in caplog.text
    assert "examples were left out;" not in told and not (tmp_path / "other.jsonl").exists()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A group of this process only: what it refuses of a model, it refuses as with others."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


class Half(nn.Module):
    """Only one of its two layers has a part in what it gives."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.used(x)


@pytest.mark.usefixtures("alone")
def test_weights_without_a_part_in_the_loss_are_a_hint_at_the_strategy_that_allows_them() -> None:
    model, x = DistributedDataParallel(Half()), torch.randn(1, 2)
    model(x).sum().backward()
    with pytest.raises(ConfigError, match=r"trainer\.strategy=ddp_find_unused_parameters_true"), refusals():
        model(x)


@pytest.mark.usefixtures("alone")
def test_layers_that_stochastic_depth_skips_have_a_part_in_the_loss() -> None:
    """So that it needs no other strategy."""
    sizes = {"n_layers": 3, "d_model": 16, "n_heads": 2, "subsampling_conv_channels": 4}
    torch.manual_seed(0)
    model = Conformer(FastConformerConfig(**sizes, stochastic_depth_drop_prob=0.9, stochastic_depth_mode="uniform"), d_in=16)
    together = DistributedDataParallel(model.train())
    skipped = 0
    for _ in range(4):
        together(torch.randn(2, 40, 16), torch.tensor([40, 30]))[0].sum().backward()
        skipped += not any(bool(p.grad.any()) for p in model.layers[2].parameters() if p.grad is not None)
        model.zero_grad()
    assert skipped > 0, "the last layer was left out at least once"
