"""An exponential moving average of the weights (Polyak and Juditsky, 1992): steadier than the weights of any one step."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from sonant_training.running.config import EmaConfig

KEY = "average"
"""Where a checkpoint keeps it, beside `state_dict`."""


def callbacks(config: EmaConfig | None) -> list[Callback]:
    """What averages the weights of a run."""
    return [] if config is None else [Average(config)]


class Average(Callback):
    """Keeps the average of everything in the module's state that has a fraction, statistics of batch norms too.

    Validations hear with the average, training goes on with the weights themselves. After `t` updates the average keeps
    `min(decay, (1 + t) / (10 + t))` of itself, so that it forgets the first weights soon.
    """

    def __init__(self, config: EmaConfig) -> None:
        self.config = config
        self.average: dict[str, Tensor] = {}
        self._updates, self._seen = 0, 0
        self._own: dict[str, Tensor] = {}

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Begin with the weights as they are, unless the run goes on with an average."""
        self._seen = trainer.global_step
        if not self.average:
            self.average = {name: _exact(value).clone() for name, value in _averaged(module).items()}
        self.average = {name: value.to(module.device) for name, value in self.average.items()}

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, index: int) -> None:
        """After each optimizer step, or every so many."""
        step = trainer.global_step
        if step == self._seen or step % self.config.every_n_steps:
            return
        self._seen = step
        state = _averaged(module)
        if step < self.config.start_step:
            keep = 0.0
        else:
            keep = min(self.config.decay, (1 + self._updates) / (10 + self._updates))
            self._updates += 1
        names = list(self.average)
        torch._foreach_lerp_([self.average[name] for name in names], [_exact(state[name]) for name in names], 1 - keep)

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Put the average in the place of the weights."""
        if self.average and not trainer.sanity_checking:
            self._own = {name: value.detach().clone() for name, value in _averaged(module).items()}
            _write(module, self.average)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Take them back."""
        if self._own:
            _write(module, self._own)
            self._own = {}

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """The average, and, should it stand in their place just now, the weights themselves."""
        checkpoint[KEY] = dict(self.average)
        checkpoint[f"{KEY}_updates"] = self._updates
        checkpoint["state_dict"] = {**checkpoint["state_dict"], **self._own}

    def on_load_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go on with it. A run that had none begins one."""
        self.average = dict(checkpoint.get(KEY, {}))
        self._updates = checkpoint.get(f"{KEY}_updates", 0)


def _exact(value: Tensor) -> Tensor:
    """In 16 bits a thousandth more would often be nothing."""
    return value.detach().to(torch.promote_types(value.dtype, torch.float32))


def _averaged(module: LightningModule) -> dict[str, Tensor]:
    return {name: value for name, value in module.state_dict().items() if value.is_floating_point()}


@torch.no_grad()
def _write(module: LightningModule, values: dict[str, Tensor]) -> None:
    state = module.state_dict()
    torch._foreach_copy_([state[name] for name in values], list(values.values()))
