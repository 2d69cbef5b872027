"""Config of the Transformer encoder on stacked frames. Field names follow NeMo's."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen


def _help(text: str) -> dict[str, str]:
    return {"help": text}


@frozen(kw_only=True)
class StackingTransformerConfig:
    """Pre-norm Transformer encoder on stacked frames, as NeMo 3.0's `TransformerEncoder`."""

    n_layers: int = field(default=17, metadata=_help("blocks"))
    d_model: int = field(default=512, metadata=_help("width"))
    n_heads: int = field(default=8, metadata=_help("attention heads; must divide d_model"))
    feat_out: int | None = field(default=None, metadata=_help("width of a final projection; none means there is none"))
    subsampling: Literal["feature_stacking", "stacking", "stacking_norm"] = field(
        default="feature_stacking",
        metadata=_help("stacked frames and a linear layer: without a bias, with one, or with normalized frames before it"),
    )
    subsampling_factor: int = field(default=4, metadata=_help("frames that are stacked to one"))
    self_attention_model: Literal["rel_pos", "abs_pos", "no_pos"] = field(
        default="rel_pos", metadata=_help("positions: relative (Dai et al., 2019), sinusoids added to the input, or none")
    )
    attn_mode: Literal["full", "causal"] = field(default="full", metadata=_help("all frames, or earlier ones alone"))
    ff_expansion: float = field(default=4.0, metadata=_help("feed-forward width as a multiple of d_model"))
    qkv_bias: bool = field(default=False, metadata=_help("biases of queries, keys and values"))
    qk_norm: bool = field(default=False, metadata=_help("normalize queries and keys, each head by itself (Henry et al., 2020)"))
    pre_block_norm: bool = field(default=True, metadata=_help("the input of the first block is normalized"))
    xscaling: bool = field(default=False, metadata=_help("multiply the stacked input by sqrt(d_model), if there are positions"))
    drop_rate: float = field(default=0.1, metadata=_help("dropout in the blocks"))
    dropout_pre_encoder: float | None = field(
        default=None, metadata=_help("dropout on the stacked input, if there are positions; none means drop_rate")
    )
    attention_backend: str = field(
        default="auto", metadata=_help("kernel of the attention over relative positions; a name is honoured or an error")
    )

    def __attrs_post_init__(self) -> None:
        if self.d_model % self.n_heads:
            raise ValueError(f"n_heads {self.n_heads} does not divide d_model {self.d_model}")
        if self.subsampling_factor < 1:
            raise ValueError(f"subsampling_factor {self.subsampling_factor} must be at least 1")
        if self.d_ff < 1:
            raise ValueError(f"ff_expansion {self.ff_expansion} leaves no feed-forward width")

    @property
    def d_ff(self) -> int:
        """Width of the feed-forward modules."""
        return int(self.ff_expansion * self.d_model)
