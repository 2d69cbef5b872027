"""The encoder of Hugging Face's Parakeet as FastConformer, and back; that of its streaming Nemotron models as a causal one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sonant.errors import CheckpointError
from sonant.mapping import ComponentMapping, ForeignSection, Rename
from sonant_encoders.conformer.config import ConformerConfig

_TYPE = "parakeet_encoder"
_STREAMING_TYPE = "nemotron_asr_streaming_encoder"
_RENAMED = {  # theirs: ours, their default
    "hidden_size": ("d_model", 1024),
    "num_hidden_layers": ("n_layers", 24),
    "num_attention_heads": ("n_heads", 8),
    "subsampling_factor": ("subsampling_factor", 8),
    "subsampling_conv_channels": ("subsampling_conv_channels", 256),
    "conv_kernel_size": ("conv_kernel_size", 9),
    "scale_input": ("xscaling", True),
    "dropout": ("dropout", 0.1),
    "dropout_positions": ("dropout_emb", 0.0),
    "attention_dropout": ("dropout_att", 0.1),
}
_FIXED = {  # what that class always is
    "feat_out": None,
    "subsampling": "dw_striding",
    "causal_downsampling": False,
    "self_attention_model": "rel_pos",
    "att_context_style": "regular",
    "contexts": [[-1, -1]],
    "untie_biases": True,
    "conv_norm_type": "batch_norm",
}


def read(section: ForeignSection) -> dict[str, Any]:
    """The encoder's section to ours."""
    values = {ours: section.take(theirs, default) for theirs, (ours, default) in _RENAMED.items()}
    if section.take("model_type") == _STREAMING_TYPE:
        values |= _read_streaming(section)
    section.expect("hidden_act", "silu")
    section.expect("subsampling_conv_kernel_size", 3)
    section.expect("subsampling_conv_stride", 2)
    section.expect("num_key_value_heads", values["n_heads"])
    values["use_bias"] = section.take("attention_bias", True)
    section.expect("convolution_bias", values["use_bias"])
    hidden, width = section.take("intermediate_size", 4096), values["d_model"]
    if hidden % width:
        raise CheckpointError(f"{section.path}.intermediate_size is {hidden}, not a multiple of hidden_size, {width}")
    section.take("num_mel_bins", None)  # follows from the features
    # Training only; and the longest recording, which nothing here limits.
    section.drop("layerdrop", "activation_dropout", "max_position_embeddings")
    return values | {"ff_expansion_factor": hidden // width, "dropout_pre_encoder": values["dropout"]}


def _read_streaming(section: ForeignSection) -> dict[str, Any]:
    """What is causal there always, and the contexts: one to the left, and the choice of those to the right, the default first."""
    left, first = section.take("sliding_window", 71) - 1, section.take("default_num_lookahead_tokens", 13)
    others = [ahead for ahead in section.take("supported_num_lookahead_tokens", None) or [] if ahead != first]
    return {
        "causal_downsampling": True,
        "conv_context_size": "causal",
        "conv_norm_type": "layer_norm",
        "att_context_style": "chunked_limited",
        "att_context_size": [[left, ahead] for ahead in (first, *others)],
    }


def write(config: ConformerConfig, d_in: int) -> dict[str, Any]:
    """Our config to the encoder's section.

    Raises:
        CheckpointError: it is not of that architecture.
    """
    unlike = [f"{key}: {getattr(config, key)}" for key, value in _FIXED.items() if getattr(config, key) != value]
    if config.conv_context[0] != config.conv_context[1]:
        unlike.append(f"conv_context_size: {config.conv_context_size}")
    if config.adapters:
        unlike.append(f"adapters: {', '.join(config.adapters)}")
    if unlike:
        raise CheckpointError(f"Hugging Face's {_TYPE} knows no Conformer with {', '.join(unlike)}")
    values = {theirs: getattr(config, ours) for theirs, (ours, _) in _RENAMED.items()}
    return values | {
        "model_type": _TYPE,
        "subsampling_conv_channels": config.subsampling_conv_channels or config.d_model,
        "num_key_value_heads": config.n_heads,
        "intermediate_size": config.d_model * config.ff_expansion_factor,
        "num_mel_bins": d_in,
        "attention_bias": config.use_bias,
        "convolution_bias": config.use_bias,
        "hidden_act": "silu",
    }


_LAYER = (
    ("norm_self_att.{}", "norm_attention.{}"),
    ("self_attn.q_proj.{}", "attention.query.{}"),
    ("self_attn.k_proj.{}", "attention.key.{}"),
    ("self_attn.v_proj.{}", "attention.value.{}"),
    ("self_attn.o_proj.{}", "attention.out.{}"),
    ("self_attn.relative_k_proj.{}", "attention.position.{}"),
    ("self_attn.bias_{}", "attention.pos_bias_{}"),
    ("norm_conv.{}", "norm_convolution.{}"),
    ("conv.depthwise_conv.{}", "convolution.depthwise.{}"),
    ("conv.norm.{}", "convolution.norm.{}"),
    ("feed_forward1.{}", "feed_forward1.{}"),
    ("feed_forward2.{}", "feed_forward2.{}"),
    ("norm_feed_forward1.{}", "norm_feed_forward1.{}"),
    ("norm_feed_forward2.{}", "norm_feed_forward2.{}"),
    ("norm_out.{}", "norm_out.{}"),
)

_MOST_STAGES = 8  # of the subsampling


def _tensors(section: Mapping[str, Any]) -> tuple[Rename, ...]:
    if not section.get("causal_downsampling"):
        return (Rename("subsampling.layers.{}", "pre_encode.conv.{}"), *_SHARED)
    # There each stage is a module with two convolutions; here all lie in one list, each stage with an activation behind it.
    stages = [
        Rename(f"subsampling.layers.{stage}.{name}.{{}}", f"pre_encode.conv.{3 * stage + place}.{{}}")
        for stage in range(_MOST_STAGES)
        for place, name in ((2, "depthwise_conv"), (3, "pointwise_conv"))
    ]
    return (Rename("subsampling.conv_in.{}", "pre_encode.conv.0.{}"), *stages, *_SHARED)


_SHARED = (
    Rename("subsampling.linear.{}", "pre_encode.out.{}"),
    *(Rename(f"layers.{{}}.{theirs}", f"layers.{{}}.{ours}") for theirs, ours in _LAYER),
    Rename("layers.{}.conv.pointwise_conv1.{}", "layers.{}.convolution.pointwise1.{}", "conv1x1"),
    Rename("layers.{}.conv.pointwise_conv2.{}", "layers.{}.convolution.pointwise2.{}", "conv1x1"),
)

MAPPING = ComponentMapping(read=read, write=write, tensors=_tensors)
