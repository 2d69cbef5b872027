"""A small English speech recognizer for Sonant, weights included."""

__version__ = "0.1.0"
