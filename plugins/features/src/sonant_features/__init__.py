"""Feature extraction and augmentation for Sonant."""

__version__ = "0.1.0"
