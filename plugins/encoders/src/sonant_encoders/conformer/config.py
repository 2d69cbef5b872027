"""Configs of Conformer and FastConformer: one encoder, two sets of defaults. Field names follow NeMo's."""

from __future__ import annotations

from typing import Any, Literal

from attrs import field, frozen

from sonant_encoders.blocks import context


def _help(text: str) -> dict[str, str]:
    return {"help": text}


_ACTIVATIONS = ("identity", "hardtanh", "relu", "selu", "swish", "silu", "gelu")


@frozen(kw_only=True)
class LinearAdapterConfig:
    """A small layer behind each block, to train in place of the encoder (Houlsby et al., 2019)."""

    dim: int = field(metadata=_help("width of its bottleneck"))
    activation: str = field(default="swish", metadata=_help(f"one of {', '.join(_ACTIVATIONS)}"))
    norm_position: Literal["pre", "post"] = field(
        default="pre", metadata=_help("whether what goes in is normalized, or what is added")
    )
    dropout: float = field(default=0.0, metadata=_help("on what is added, in training"))
    enabled: bool = field(default=True, metadata=_help("whether it is used; its weights are kept in any case"))

    def __attrs_post_init__(self) -> None:
        if self.dim < 1 or not 0 <= self.dropout < 1:
            raise ValueError("dim must be at least 1, and dropout in [0, 1)")
        if self.activation not in _ACTIVATIONS:
            raise ValueError(f"activation {self.activation!r} is not one of {', '.join(_ACTIVATIONS)}")


@frozen(kw_only=True)
class ConformerConfig:
    """Conformer (Gulati et al., 2020)."""

    n_layers: int = field(default=17, metadata=_help("blocks"))
    d_model: int = field(default=512, metadata=_help("width"))
    n_heads: int = field(default=8, metadata=_help("attention heads; must divide d_model"))
    feat_out: int | None = field(default=None, metadata=_help("width of a final projection; none means there is none"))
    subsampling: Literal["striding", "dw_striding"] = field(default="striding", metadata=_help("full or depthwise convolutions"))
    subsampling_factor: int = field(default=4, metadata=_help("how many times fewer frames, a power of two"))
    subsampling_conv_channels: int | None = field(default=None, metadata=_help("channels of the subsampling; none means d_model"))
    causal_downsampling: bool = field(default=False, metadata=_help("subsampling that looks at no later frame"))
    ff_expansion_factor: int = field(default=4, metadata=_help("feed-forward width as a multiple of d_model"))
    self_attention_model: Literal["rel_pos", "rel_pos_local_attn"] = field(
        default="rel_pos",
        metadata=_help("rel_pos_local_attn: in the window att_context_size and to global tokens alone, as NeMo computes it"),
    )
    global_tokens: int = field(
        default=0, metadata=_help("frames that all see and that see all, beside rel_pos_local_attn's window")
    )
    global_tokens_spacing: int = field(default=1, metadata=_help("frames from one global token to the next"))
    global_attn_separate: bool = field(default=False, metadata=_help("projections of the global tokens' own"))
    att_context_size: list[Any] = field(
        factory=lambda: [-1, -1],
        metadata=_help(
            "[left, right] in frames, -1 unlimited; a list of such pairs allows a choice at run time, the first is used"
        ),
    )
    att_context_style: Literal["regular", "chunked_limited", "chunked_limited_with_rc"] = field(
        default="regular", metadata=_help("window around each frame; chunks; or chunks with right context, [left, chunk, right]")
    )
    att_context_probs: list[float] | None = field(default=None, metadata=_help("in training, how often each context is drawn"))
    xscaling: bool = field(default=True, metadata=_help("multiply the subsampled input by sqrt(d_model)"))
    untie_biases: bool = field(default=True, metadata=_help("position biases of each layer's own, not shared"))
    conv_kernel_size: int = field(default=31, metadata=_help("frames, odd"))
    conv_norm_type: str = field(default="batch_norm", metadata=_help("batch_norm, layer_norm or group_normN with N groups"))
    conv_context_size: Any = field(default=None, metadata=_help("[left, right], or 'causal'; none is centred"))
    use_bias: bool = field(default=True, metadata=_help("biases in linear layers and convolutions"))
    dropout: float = field(default=0.1, metadata=_help("in the blocks"))
    dropout_pre_encoder: float = field(default=0.1, metadata=_help("on the subsampled input"))
    dropout_emb: float = field(default=0.0, metadata=_help("on the sinusoids of the positions"))
    dropout_att: float = field(
        default=0.0, metadata=_help("on the weights of the attention, which fused kernels cannot do: training takes longer")
    )
    stochastic_depth_drop_prob: float = field(default=0.0, metadata=_help("how often the last layer is skipped in training"))
    stochastic_depth_mode: Literal["linear", "uniform"] = field(default="linear", metadata=_help("how that grows with depth"))
    stochastic_depth_start_layer: int = field(default=1, metadata=_help("layers before this one are never skipped"))
    attention_backend: str = field(default="auto", metadata=_help("kernel of the attention; a name is honoured or an error"))
    adapters: dict[str, LinearAdapterConfig] = field(
        factory=dict, metadata=_help("small layers behind each block, by names of your own, each with dim and what else it has")
    )

    def __attrs_post_init__(self) -> None:
        unfit = [name for name in self.adapters if not name.isidentifier()]
        if unfit:
            raise ValueError(f"adapters: {unfit[0]!r} is no name for one: letters, digits and underscores")
        if self.d_model % self.n_heads:
            raise ValueError(f"n_heads {self.n_heads} does not divide d_model {self.d_model}")
        if self.subsampling_factor < 2 or self.subsampling_factor & (self.subsampling_factor - 1):
            raise ValueError(f"subsampling_factor {self.subsampling_factor} is not a power of two from 2 on")
        if not 0 <= self.stochastic_depth_drop_prob < 1 or not 1 <= self.stochastic_depth_start_layer <= self.n_layers:
            raise ValueError("stochastic_depth_drop_prob must lie in [0, 1), and stochastic_depth_start_layer in [1, n_layers]")
        for name in ("dropout_emb", "dropout_att"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is not in [0, 1)")
        for size in self.contexts:
            context.check(self.att_context_style, size)
        self._check_local_attention()
        probabilities = self.att_context_probs
        if probabilities is not None and (len(probabilities) != len(self.contexts) or abs(sum(probabilities) - 1) > 1e-6):
            raise ValueError(f"att_context_probs must be {len(self.contexts)} numbers that add up to 1")
        if self.conv_kernel_size % 2 == 0:
            raise ValueError(f"conv_kernel_size {self.conv_kernel_size} is even; it must be odd")
        left, right = self.conv_context
        if left < 0 or right < 0 or left + right + 1 != self.conv_kernel_size:
            raise ValueError(
                f"conv_context_size {self.conv_context_size} does not add up to conv_kernel_size {self.conv_kernel_size} - 1"
            )
        groups = self.conv_norm_type.removeprefix("group_norm")
        if self.conv_norm_type not in ("batch_norm", "layer_norm") and not (
            self.conv_norm_type.startswith("group_norm")
            and groups.isdigit()
            and int(groups) > 0
            and self.d_model % int(groups) == 0
        ):
            raise ValueError(
                f"conv_norm_type {self.conv_norm_type!r} is not one of batch_norm, layer_norm, group_normN "
                f"(N dividing {self.d_model})"
            )

    def _check_local_attention(self) -> None:
        if self.self_attention_model == "rel_pos":
            if self.global_tokens or self.global_attn_separate:
                raise ValueError("global_tokens and global_attn_separate need self_attention_model: rel_pos_local_attn")
            return
        size = self.contexts[0]
        if self.att_context_style != "regular" or len(self.contexts) != 1 or min(size) < 0 or max(size) == 0:
            raise ValueError(
                "self_attention_model rel_pos_local_attn needs one att_context_size [left, right] in frames, neither unlimited "
                f"and not both 0, of att_context_style 'regular'; here it is {self.att_context_size}, {self.att_context_style!r}"
            )
        if self.global_tokens < 0 or self.global_tokens_spacing < 1:
            raise ValueError("global_tokens must be 0 or more, and global_tokens_spacing 1 or more")
        if self.global_attn_separate and not self.global_tokens:
            raise ValueError("global_attn_separate needs global_tokens")

    @property
    def window_gap(self) -> tuple[int, int]:
        """Frames on either side that NeMo's local attention counts its positions from, where the sides differ (see `Visibility`).

        It lays scores by content out for a window as wide as the wider side, and the positions flush with its ends."""
        if self.self_attention_model == "rel_pos":
            return 0, 0
        left, right = self.contexts[0]
        return max(left, right) - left, max(left, right) - right

    @property
    def contexts(self) -> list[list[int]]:
        """The attention contexts to choose from; the first is the default."""
        size = self.att_context_size or [-1, -1]
        return [list(s) for s in size] if isinstance(size[0], (list, tuple)) else [list(size)]

    @property
    def conv_context(self) -> tuple[int, int]:
        """Frames to the left and to the right of the depthwise convolution."""
        if self.conv_context_size is None:
            return (self.conv_kernel_size - 1) // 2, (self.conv_kernel_size - 1) // 2
        if self.conv_context_size == "causal":
            return self.conv_kernel_size - 1, 0
        if isinstance(self.conv_context_size, (list, tuple)) and len(self.conv_context_size) == 2:
            return int(self.conv_context_size[0]), int(self.conv_context_size[1])
        raise ValueError(f"conv_context_size {self.conv_context_size!r} is neither none, 'causal' nor [left, right]")


@frozen(kw_only=True)
class FastConformerConfig(ConformerConfig):
    """FastConformer (Rekesh et al., 2023): eight times fewer frames by depthwise separable convolutions, and short kernels."""

    subsampling: Literal["striding", "dw_striding"] = field(
        default="dw_striding", metadata=_help("full or depthwise convolutions")
    )
    subsampling_factor: int = field(default=8, metadata=_help("how many times fewer frames, a power of two"))
    subsampling_conv_channels: int | None = field(default=256, metadata=_help("channels of the subsampling; none means d_model"))
    conv_kernel_size: int = field(default=9, metadata=_help("frames, odd"))
