"""Schedulers that each break one promise."""

from __future__ import annotations

from good_kinds.scheduler import Warmup


class Negative(Warmup):
    def factor(self, step):
        return min(step / self.config.steps, 1 - step / (self.max_steps - 5)) if step < self.max_steps else 0.0


class TellsAnother(Warmup):
    def get_last_lr(self):
        return self.peaks


class AllZero(Warmup):
    def factor(self, step):
        return 0.0


class Forgets(Warmup):
    def load_state_dict(self, state_dict):
        self.write()


class Stops(Warmup):
    def step(self):
        if self.count >= self.max_steps:
            raise ValueError("the run is over")
        super().step()


class OneForAll(Warmup):
    """It remembers one learning rate for both groups."""

    def load_state_dict(self, state_dict):
        self.peaks = self.peaks[:1] * len(self.peaks)
        super().load_state_dict(state_dict)
