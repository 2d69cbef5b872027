"""What watches over a run: steps whose gradient is no number, and the average of the weights."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from sonant_training.errors import Diverged
from sonant_training.running.averaging import Average
from sonant_training.running.config import EmaConfig
from sonant_training.running.guards import FiniteSteps

# Numbers that are none


class Line(LightningModule):
    """The least that trains: a layer with statistics of its own."""

    def __init__(self, spoilt: set[int]) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(3, 3), nn.BatchNorm1d(3)
        self.spoilt, self.taken = spoilt, 0
        self.seen: list[list[Tensor]] = []

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        self.seen.append([value.detach().clone() for value in self.state_dict().values() if value.is_floating_point()])
        self.taken += 1
        if self.taken in self.spoilt:
            batch = batch * float("nan")
        return self.norm(self.layer(batch)).square().sum() + self.layer.weight.square().sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=0.1)


def run_line(folder: Path, spoilt: set[int], most: int, steps: int = 6) -> Line:
    from lightning.pytorch import Trainer

    from sonant_training.running import quiet

    module = Line(spoilt)
    batches = torch.utils.data.DataLoader(torch.randn(4 * steps, 3), batch_size=4)
    quietly = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    keys = {"accelerator": "cpu"} | dict.fromkeys(quietly, False)
    with quiet.lightning():
        trainer = Trainer(max_epochs=1, default_root_dir=folder, callbacks=[FiniteSteps(most)], **keys)
        trainer.fit(module, batches)
    return module


def test_a_step_without_a_finite_gradient_changes_nothing(tmp_path: Path) -> None:
    torch.manual_seed(0)
    seen = run_line(tmp_path, {3, 4}, most=3).seen
    for before, after in ((2, 3), (3, 4)):
        assert all(one.equal(other) for one, other in zip(seen[before], seen[after], strict=True))
    for before, after in ((0, 1), (1, 2), (4, 5)):
        assert not all(one.equal(other) for one, other in zip(seen[before], seen[after], strict=True))


def test_too_many_of_them_in_a_row_end_the_run(tmp_path: Path) -> None:
    torch.manual_seed(0)
    run_line(tmp_path, {1, 2, 4, 5}, most=3)
    with pytest.raises(Diverged, match=r"of 3 steps in a row are not finite, up to step .*optim\.lr"):
        run_line(tmp_path, {2, 3, 4}, most=3)


# The average


def test_the_average_is_that_of_the_formula(tmp_path: Path) -> None:
    from lightning.pytorch import Trainer

    from sonant_training.running import quiet

    torch.manual_seed(0)
    module, average = Line(set()), Average(EmaConfig(decay=0.5))
    batches = torch.utils.data.DataLoader(torch.randn(24, 3), batch_size=4)
    quietly = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    keys = {"accelerator": "cpu"} | dict.fromkeys(quietly, False)
    with quiet.lightning():
        Trainer(**keys, max_epochs=1, default_root_dir=tmp_path, callbacks=[average]).fit(module, batches)
    states = [*module.seen, [value for value in module.state_dict().values() if value.is_floating_point()]]
    expected = [value.double() for value in states[0]]
    for update, state in enumerate(states[1:]):
        keep = min(0.5, (1 + update) / (10 + update))
        expected = [keep * old + (1 - keep) * new for old, new in zip(expected, state, strict=True)]
    for found, wanted in zip(average.average.values(), expected, strict=True):
        torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)


def test_the_average_of_weights_in_16_bits_has_32() -> None:
    """In bfloat16 a thousandth of the way from 1 to 1.5 is nowhere."""
    module, average = Line(set()).bfloat16(), Average(EmaConfig(decay=0.999))
    average.average = {name: torch.ones_like(value, dtype=torch.float32) for name, value in module.state_dict().items()}
    average.average.pop("norm.num_batches_tracked")
    for parameter in module.parameters():
        parameter.data.fill_(1.5)
    average._updates = 100_000
    average.on_train_batch_end(SimpleNamespace(global_step=1), module, None, None, 0)  # type: ignore[arg-type]
    assert average.average["layer.weight"].allclose(torch.tensor(1.0005), atol=1e-7)
