"""What can go wrong in training, beside what the core has errors for."""

from __future__ import annotations

from sonant.errors import SonantError


class DataError(SonantError, ValueError):
    """The examples cannot be used: a manifest is missing or no manifest, or an example is bad and the config says to raise."""


class Diverged(SonantError, RuntimeError):
    """The gradients were no numbers, too many times in a row."""


class Interrupted(SonantError, RuntimeError):
    """The run was told to end, and wrote a checkpoint to go on from."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number  # as shells report it
