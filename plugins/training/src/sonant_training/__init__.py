"""Training for Sonant: losses, optimizers, schedules, data, and `sonant train`."""

__version__ = "0.1.0"
