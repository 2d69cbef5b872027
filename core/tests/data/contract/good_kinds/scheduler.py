"""A learning rate that grows, and then falls to zero."""

from __future__ import annotations


class Warmup:
    """Grows over `steps`, then falls along a line to zero at `max_steps`."""

    def __init__(self, config, *, optimizer, max_steps):
        self.config, self.optimizer, self.max_steps = config, optimizer, max_steps
        self.peaks = [group["lr"] for group in optimizer.param_groups]
        self.count = 0
        self.write()

    def factor(self, step):
        left = self.max_steps - self.config.steps
        return min((step + 1) / self.config.steps, max(0.0, (self.max_steps - step) / left))

    def write(self):
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * self.factor(self.count)

    def step(self):
        self.count += 1
        self.write()

    def get_last_lr(self):
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state_dict):
        self.count = state_dict["count"]
        self.write()
