"""Training for Sonant: losses, optimizers, schedules, data, and `sonant train`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sonant_training.running.training import train as train

__version__ = "0.1.0"
__all__ = ["__version__", "train"]


def __getattr__(name: str) -> Any:
    """`train` is imported when it is first used: it needs torch and Lightning."""
    if name != "train":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sonant_training.running.training import train

    return train
