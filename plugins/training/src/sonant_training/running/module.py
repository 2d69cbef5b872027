"""What Lightning trains: a model with its losses, and how a batch becomes a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from sonant.errors import ConfigError, SonantError
from sonant.training import Score
from sonant_training.data.loading import training_batches, validation_batches
from sonant_training.errors import DataError
from sonant_training.optimizers.building import build_optimizer
from sonant_training.running import checkpoints
from sonant_training.running.reading import Run
from sonant_training.running.tally import Tally

if TYPE_CHECKING:
    from sonant_training.data.config import DataConfig
    from sonant_training.data.loading import Loaded


class Training(LightningModule):
    """A model in training.

    Everything random follows from the run's seed: the data from the number of the batch, and what the model draws from that and
    the rank. So the number of batches that were taken, `batches`, is all that must be known to go on.

    Args:
        model: a `Trainable`.
        parts: what its `loss` takes: those of its task's spec in `training`, by their keys.
        run: the run's config.
    """

    def __init__(self, model: nn.Module, parts: Mapping[str, Any], run: Run) -> None:
        super().__init__()
        self.model, self.run = model, run
        self.parts = dict(parts)
        self.losses = nn.ModuleDict({key: part for key, part in parts.items() if isinstance(part, nn.Module)})
        self.batches = 0
        self.tally = Tally()

    # Data

    def train_dataloader(self) -> Any:
        """The batches, from where the run stands."""
        config, shared = self.run.train, self._shared()
        return training_batches(config, **shared, seed=self.run.seed, skip=self.batches)

    def val_dataloader(self) -> list[Any]:
        """Those of each validation set."""
        return self._once(self.run.validation)

    def test_dataloader(self) -> list[Any]:
        """Those of each test set."""
        return self._once(self.run.test)

    def _once(self, sets: Mapping[str, DataConfig]) -> list[Any]:
        return [validation_batches(config, **self._shared()) for config in sets.values()]

    def _shared(self) -> dict[str, Any]:
        rank, world = self.trainer.global_rank, self.trainer.world_size
        sample_rate = self.model.preprocessor.sample_rate  # type: ignore[union-attr]
        return {"task": self.model, "sample_rate": sample_rate, "rank": rank, "world_size": world, "folder": self.run.folder}

    def transfer_batch_to_device(self, batch: Loaded, device: torch.device, dataloader_idx: int) -> Loaded:
        """A batch's tensors on the device of the model."""
        return batch.to(device)

    # Training

    def training_step(self, batch: Loaded, index: int) -> Tensor:
        """The loss of a batch. What the model draws for it has a seed of its own."""
        torch.manual_seed(seed_of(self.run.seed, self.batches, self.global_rank))
        self.batches += 1
        losses = self._losses(batch)
        for name, value in losses.items():
            self.log(f"train_{name}", value.detach(), batch_size=batch.examples)
        return losses["loss"]

    def _losses(self, batch: Loaded) -> dict[str, Tensor]:
        try:
            losses: dict[str, Tensor] = self.model.loss(batch.batch, **self.parts)  # type: ignore[operator]
        except SonantError:
            raise
        except (ValueError, TypeError) as error:  # a loss that is not for such a head
            raise ConfigError(
                f"loss: it does not go with this model, whose head mostly wants the loss of its own name: {error}"
            ) from error
        return losses

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Write down the learning rate and the length of the gradient, at the steps at which Lightning writes."""
        if self.run.log_every and (self.trainer.global_step + 1) % self.run.log_every == 0:
            norms = [p.grad.norm() for p in self.parameters() if p.grad is not None]
            self.log("grad_norm", torch.stack(norms).norm() if norms else 0.0)
            self.log("lr", optimizer.param_groups[0]["lr"])

    def optimizer(self) -> tuple[Any, Any]:
        """A new optimizer of the run and its schedule, if it has one."""
        return build_optimizer(self.run.optim, trained(self.model, self.losses), self.run.max_steps)

    def configure_optimizers(self) -> Any:
        """Lightning asks for them once."""
        optimizer, scheduler = self.optimizer()
        if scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Schedulers of the registry are stepped without an epoch or a measure."""
        scheduler.step()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Beside what Lightning keeps: where the data stands."""
        checkpoint["batches"] = self.batches

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on there."""
        self.batches = checkpoint["batches"]

    # Validation and test

    def on_validation_epoch_start(self) -> None:
        """Count anew."""
        self.tally = Tally()

    def validation_step(self, batch: Loaded, index: int, dataloader_idx: int = 0) -> list[Score]:  # type: ignore[override]
        """The scores of a batch."""
        return self._scored(batch, list(self.run.validation)[dataloader_idx])

    def on_validation_epoch_end(self) -> None:
        """Write down the loss and the error rates of each set, and of all."""
        self._write("val")

    def on_test_epoch_start(self) -> None:
        """Count anew."""
        self.tally = Tally()

    def test_step(self, batch: Loaded, index: int, dataloader_idx: int = 0) -> list[Score]:  # type: ignore[override]
        """The scores of a batch."""
        return self._scored(batch, list(self.run.test)[dataloader_idx])

    def on_test_epoch_end(self) -> None:
        """Write down the loss and the error rates of each set, and of all."""
        self._write("test")

    def _scored(self, batch: Loaded, name: str) -> list[Score]:
        if not batch.examples:
            return []
        losses = self._losses(batch)
        scores: list[Score] = self.model.score(batch.batch)  # type: ignore[operator]
        self.tally.add(name, {key: float(value) for key, value in losses.items()}, scores)
        return scores

    def _write(self, stage: str) -> None:
        rates = self.tally.rates(self.trainer.strategy)
        if not rates and not self.trainer.sanity_checking:
            key = {"val": "validation_ds"}.get(stage, f"{stage}_ds")
            raise DataError(
                f"{key}: none of its examples can be used; `sonant data validate MANIFEST` says what is wrong with them"
            )
        if stage == "val" and rates:
            checkpoints.check_monitored(self.run.experiment, {f"val_{name}" for name in rates})
        for name, value in rates.items():
            self.log(f"{stage}_{name}", value)


def trained(model: nn.Module, losses: nn.ModuleDict) -> nn.Module:
    """A view of both, in which parameters have the names that a config knows: `encoder.layers.0…`, `loss.weight`."""
    view = nn.Module()
    for name, child in [*model.named_children(), *losses.named_children()]:
        view.add_module(name, child)
    for name, parameter in model.named_parameters(recurse=False):
        view.register_parameter(name, parameter)
    return view


def seed_of(seed: int, batch: int, rank: int) -> int:
    """A seed for what a model draws at a batch; any other number of the three gives another (mixed as splitmix64 does)."""
    value = 0
    for number in (seed, batch, rank):
        value = (value + number + 0x9E3779B97F4A7C15) % 2**64
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
        value ^= value >> 31
    return value % 2**63
