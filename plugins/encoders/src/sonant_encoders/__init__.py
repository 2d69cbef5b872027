"""Speech encoders for Sonant: Conformer, FastConformer, Transformer, and the attention kernels behind them."""

__version__ = "0.1.0"
