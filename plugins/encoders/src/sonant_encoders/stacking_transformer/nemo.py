"""NeMo's `TransformerEncoder` as the Transformer encoder on stacked frames, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sonant.nemo import ComponentMapping, NemoSection, Rename
from sonant_encoders.stacking_transformer.config import StackingTransformerConfig

_TARGET = "nemo.collections.asr.modules.TransformerEncoder"
_SAME = {  # key in both: NeMo's default
    "n_layers": 17,
    "d_model": 512,
    "n_heads": 8,
    "ff_expansion": 4.0,
    "qkv_bias": False,
    "qk_norm": False,
    "pre_block_norm": True,
    "xscaling": False,
    "attn_mode": "full",
    "drop_rate": 0.1,
    "dropout_pre_encoder": None,
}


def read(section: NemoSection) -> dict[str, Any]:
    """NeMo's section to ours."""
    section.take("feat_in", None)
    values = {key: section.take(key, default) for key, default in _SAME.items()}
    values["self_attention_model"] = section.take("self_attention_model", "rel_pos") or "no_pos"
    values |= _subsampling(section.take("subsampling", "feature_stacking"), section.take("subsampling_factor", 4))
    feat_out = section.take("feat_out", -1)
    values["feat_out"] = feat_out if feat_out > 0 and feat_out != values["d_model"] else None
    section.drop("dropout_emb", "pos_emb_max_len", "sync_max_audio_length")  # of training, and how NeMo computes
    return values


def _subsampling(kind: str | None, factor: int) -> dict[str, Any]:
    """NeMo takes the frames as they are, through a linear layer, where there is nothing to stack."""
    if kind != "feature_stacking" and (not kind or factor == 1):
        return {"subsampling": "stacking", "subsampling_factor": 1}
    return {"subsampling": kind, "subsampling_factor": factor}


def write(config: StackingTransformerConfig, d_in: int) -> dict[str, Any]:
    """Our config to NeMo's section."""
    values: dict[str, Any] = {"_target_": _TARGET, "feat_in": d_in, "feat_out": config.feat_out or -1}
    return values | {key: getattr(config, key) for key in (*_SAME, "self_attention_model", "subsampling", "subsampling_factor")}


_LAYER = (
    ("norm1.{}", "norm_attention.{}"),
    ("attn.w_qkv.{}", "attention.qkv.{}"),
    ("attn.q_norm.{}", "attention.norm_query.{}"),
    ("attn.k_norm.{}", "attention.norm_key.{}"),
    ("attn.linear_pos.{}", "attention.position.{}"),
    ("attn.pos_bias_{}", "attention.pos_bias_{}"),
    ("attn.out_proj.{}", "attention.out.{}"),
    ("norm2.{}", "norm_feed_forward.{}"),
    ("ffn.net.0.{}", "feed_forward.linear1.{}"),
    ("ffn.net.3.{}", "feed_forward.linear2.{}"),
)


def _tensors(section: Mapping[str, Any]) -> tuple[Rename, ...]:
    kind, factor = section.get("subsampling", "feature_stacking"), section.get("subsampling_factor", 4)
    projection = "proj." if kind == "feature_stacking" else "proj_out." if factor > 1 else ""
    return (
        Rename("pre_encode.pre_norm.{}", "pre_encode.norm.{}"),
        Rename(f"pre_encode.{projection}{{}}", "pre_encode.out.{}"),
        Rename("embed_norm.{}", "norm_in.{}"),
        *(Rename(f"layers.{{}}.{theirs}", f"layers.{{}}.{ours}") for theirs, ours in _LAYER),
        Rename("final_norm.{}", "norm.{}"),
        Rename("out_proj.{}", "out.{}"),
    )


MAPPING = ComponentMapping(read=read, write=write, tensors=_tensors, ignored=("pos_enc.pe",))
