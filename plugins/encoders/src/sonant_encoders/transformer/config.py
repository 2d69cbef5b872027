"""Config of the Transformer encoder."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen


def _help(text: str) -> dict[str, str]:
    return {"help": text}


@frozen(kw_only=True)
class TransformerConfig:
    """Transformer encoder (Vaswani et al., 2017) on subsampled features."""

    n_layers: int = field(default=12, metadata=_help("blocks"))
    d_model: int = field(default=512, metadata=_help("width"))
    n_heads: int = field(default=8, metadata=_help("attention heads; must divide d_model"))
    d_ff: int | None = field(default=None, metadata=_help("feed-forward width; none means 4 d_model"))
    norm: Literal["pre", "post"] = field(default="pre", metadata=_help("normalize before each module, or after, as published"))
    activation: Literal["relu", "gelu", "silu"] = field(default="relu", metadata=_help("of the feed-forward module"))
    subsampling: Literal["striding", "dw_striding"] = field(default="striding", metadata=_help("full or depthwise convolutions"))
    subsampling_factor: int = field(default=4, metadata=_help("how many times fewer frames, a power of two"))
    subsampling_conv_channels: int | None = field(default=None, metadata=_help("channels of the subsampling; none means d_model"))
    use_bias: bool = field(default=True, metadata=_help("biases in linear layers"))
    dropout: float = field(default=0.1, metadata=_help("in the blocks, and on the embedded input"))

    def __attrs_post_init__(self) -> None:
        if self.d_model % self.n_heads:
            raise ValueError(f"n_heads {self.n_heads} does not divide d_model {self.d_model}")
        if self.subsampling_factor < 2 or self.subsampling_factor & (self.subsampling_factor - 1):
            raise ValueError(f"subsampling_factor {self.subsampling_factor} is not a power of two from 2 on")
