"""NeMo's `ConformerEncoder` as Conformer or FastConformer, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from sonant.nemo import ComponentMapping, NemoSection, Rename
from sonant_encoders.conformer import nemo_adapters
from sonant_encoders.conformer.config import ConformerConfig

_TARGET = "nemo.collections.asr.modules.ConformerEncoder"
_ADAPTED_TARGET = "nemo.collections.asr.modules.conformer_encoder.ConformerEncoderAdapter"
_SAME = {  # key in both: NeMo's default
    "n_layers": None,
    "d_model": None,
    "n_heads": 4,
    "subsampling": "striding",
    "subsampling_factor": 4,
    "causal_downsampling": False,
    "ff_expansion_factor": 4,
    "att_context_style": "regular",
    "att_context_probs": None,
    "xscaling": True,
    "untie_biases": True,
    "conv_kernel_size": 31,
    "conv_norm_type": "batch_norm",
    "conv_context_size": None,
    "use_bias": True,
    "dropout": 0.1,
    "dropout_pre_encoder": 0.1,
    "dropout_emb": 0.1,
    "dropout_att": 0.0,
    "stochastic_depth_drop_prob": 0.0,
    "stochastic_depth_mode": "linear",
    "stochastic_depth_start_layer": 1,
}


_LOCAL = {"global_tokens": 0, "global_tokens_spacing": 1, "global_attn_separate": False}  # of rel_pos_local_attn alone


def read(section: NemoSection) -> dict[str, Any]:
    """NeMo's section to ours; depthwise subsampling makes it a FastConformer by name."""
    attention = section.peek("self_attention_model", "rel_pos")
    section.expect("self_attention_model", "rel_pos", "rel_pos_local_attn")
    section.expect("reduction", None)
    section.expect("conv_context_style", "regular")
    section.take("feat_in", None)
    values = {key: section.take(key, default) for key, default in _SAME.items()}
    values["self_attention_model"] = attention
    if attention == "rel_pos_local_attn":
        values |= {key: section.take(key, default) for key, default in _LOCAL.items()}
        values["untie_biases"] = True  # whatever it says: NeMo shares them in full attention alone
    values["att_context_size"] = section.take("att_context_size", None) or [-1, -1]
    if values["att_context_style"] == "chunked_limited_with_rc":
        values["att_context_size"] = [-1, -1, -1]  # its own choice for whole recordings
    channels, feat_out = section.take("subsampling_conv_channels", -1), section.take("feat_out", -1)
    values["subsampling_conv_channels"] = None if channels == -1 else channels
    values["feat_out"] = feat_out if feat_out > 0 and feat_out != values["d_model"] else None
    values["name"] = "fastconformer" if values["subsampling"] == "dw_striding" else "conformer"
    values["adapters"] = nemo_adapters.read(section)
    section.drop(  # how NeMo computes, not what
        *("reduction_position", "reduction_factor", "pos_emb_max_len", "sync_max_audio_length"),
        *("subsampling_conv_chunking_factor", "use_pytorch_sdpa", "use_pytorch_sdpa_backends", "att_chunk_context_size"),
        *_LOCAL,
    )
    return values


def write(config: ConformerConfig, d_in: int) -> dict[str, Any]:
    """Our config to NeMo's section."""
    values: dict[str, Any] = {"_target_": _TARGET, "feat_in": d_in, "feat_out": config.feat_out or -1}
    values |= {key: getattr(config, key) for key in (*_SAME, "self_attention_model", *_LOCAL)}
    values["subsampling_conv_channels"] = -1 if config.subsampling_conv_channels is None else config.subsampling_conv_channels
    values["att_context_size"] = config.att_context_size
    if config.adapters:
        values |= {"_target_": _ADAPTED_TARGET, "adapters": nemo_adapters.write(config)}
    return values


_LAYER: tuple[tuple[str, str, Literal["same", "conv1x1"]], ...] = (
    ("norm_self_att.{}", "norm_attention.{}", "same"),
    ("self_attn.linear_q.{}", "attention.query.{}", "same"),
    ("self_attn.linear_k.{}", "attention.key.{}", "same"),
    ("self_attn.linear_v.{}", "attention.value.{}", "same"),
    ("self_attn.linear_out.{}", "attention.out.{}", "same"),
    ("self_attn.linear_pos.{}", "attention.position.{}", "same"),
    ("self_attn.pos_bias_{}", "attention.pos_bias_{}", "same"),
    ("self_attn.global_q.{}", "attention.global_tokens.query.{}", "same"),
    ("self_attn.global_k.{}", "attention.global_tokens.key.{}", "same"),
    ("self_attn.global_v.{}", "attention.global_tokens.value.{}", "same"),
    ("norm_conv.{}", "norm_convolution.{}", "same"),
    ("conv.pointwise_conv1.{}", "convolution.pointwise1.{}", "conv1x1"),
    ("conv.pointwise_conv2.{}", "convolution.pointwise2.{}", "conv1x1"),
    ("conv.depthwise_conv.{}", "convolution.depthwise.{}", "same"),
    ("conv.batch_norm.{}", "convolution.norm.{}", "same"),
    ("feed_forward1.{}", "feed_forward1.{}", "same"),
    ("feed_forward2.{}", "feed_forward2.{}", "same"),
    ("norm_feed_forward1.{}", "norm_feed_forward1.{}", "same"),
    ("norm_feed_forward2.{}", "norm_feed_forward2.{}", "same"),
    ("norm_out.{}", "norm_out.{}", "same"),
)

_TENSORS = (
    Rename("pre_encode.{}", "pre_encode.{}"),
    *(Rename(f"layers.{{}}.{theirs}", f"layers.{{}}.{ours}", shape) for theirs, ours, shape in _LAYER),
    Rename("out_proj.{}", "out.{}"),
)


def _tensors(section: Mapping[str, Any]) -> tuple[Rename, ...]:
    return (*_TENSORS, *nemo_adapters.tensors(section.get("adapters") or {}))


MAPPING = ComponentMapping(
    read=read,
    write=write,
    tensors=_tensors,
    ignored=("pos_enc.pe", "pos_bias_u", "pos_bias_v"),
)
