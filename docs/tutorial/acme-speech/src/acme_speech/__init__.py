"""Speech components for Sonant: an encoder, a decoder with its search and loss, and keyword spotting."""

__version__ = "0.1.0"
