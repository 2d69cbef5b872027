"""Speech recognition for Sonant: CTC, RNN-T and TDT heads, their searches, tokenizers, and the task `asr`."""

__version__ = "0.1.0"
