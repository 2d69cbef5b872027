"""One class for each cause a user can act on; all derive from `SonantError`.

Each also derives from the built-in exception that fits, so `except ValueError` works
for a caller who does not know Sonant.
"""

from __future__ import annotations


class SonantError(Exception):
    """Base of every error Sonant raises on purpose. Its text is meant for the user."""


class ConfigError(SonantError, ValueError):
    """A config has an unknown key, a wrong type, a missing value or an impossible combination."""


class UnknownName(SonantError, LookupError):
    """No installed plugin provides the component, model or operation that was asked for."""


class DuplicateName(SonantError, ValueError):
    """Two distributions claim one name; raised when that name is asked for."""


class PluginError(SonantError, RuntimeError):
    """A plugin cannot be used: it does not import, or breaks the hook contract."""


class CheckpointError(SonantError, ValueError):
    """A checkpoint is damaged, unsafe, or does not fit the model it describes."""


class AudioError(SonantError, ValueError):
    """A recording is missing, unreadable, empty or not finite."""


class DownloadError(SonantError, OSError):
    """A model could not be fetched, or what came is not what the card promises."""


class KernelUnavailable(SonantError, RuntimeError):
    """A kernel backend was asked for by name and cannot run here."""
