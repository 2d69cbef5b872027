"""The decoder of NeMo's `EncDecMultiTaskModel` as an attention encoder-decoder head, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sonant.errors import CheckpointError
from sonant.nemo import ComponentMapping, NemoSection, Rename
from sonant_asr.aed.config import AedConfig

_MODULES = "nemo.collections.asr.modules.transformer."
_HEAD = "nemo.collections.asr.parts.submodules.token_classifier.TokenClassifier"
SECTIONS = ("transf_encoder", "transf_decoder", "head", "prompt_format", "prompt_defaults")
"""The keys of NeMo's document that make up the head."""


def read(section: NemoSection) -> dict[str, Any]:
    """A section that holds `SECTIONS` and the hidden sizes as `model_defaults`, to ours."""
    decoder, head = section.section("transf_decoder"), section.section("head")
    decoder.expect("pretrained", False)
    decoder.expect("model_name", None)
    decoder.expect("encoder", None, False)
    decoder.expect("pre_ln_final_layer_norm", True)
    decoder.drop("library", "config_file", "checkpoint_file")
    layers = decoder.section("config_dict")
    width = layers.take("hidden_size")
    if layers.take("pre_ln", False) is not True:
        raise CheckpointError("transf_decoder.config_dict.pre_ln is False, which Sonant does not support; supported: True")
    layers.expect("learn_positional_encodings", False)
    layers.drop("vocab_size", "num_token_types", "attn_score_dropout", "lm_dec_hidden")
    activation = layers.take("hidden_act", "relu")
    head.expect("_target_", _HEAD)
    head.expect("hidden_size", width)
    head.expect("num_layers", 1)
    head.expect("dropout", 0.0)
    head.drop("activation", "log_softmax", "num_classes", "use_transformer_init")
    values = {
        "name": "aed",
        "d_model": width,
        "n_layers": layers.take("num_layers"),
        "n_heads": layers.take("num_attention_heads"),
        "d_ff": layers.take("inner_size"),
        "activation": activation,
        "max_positions": layers.take("max_sequence_length", 512),
        "embedding_dropout": layers.take("embedding_dropout", 0.0),
        "dropout": _dropout(layers),
        "prompt_format": section.take("prompt_format"),
        "prompt_defaults": _read_defaults(section),
    }
    encoder = section.section("transf_encoder") if "transf_encoder" in section else None
    section.drop("transf_encoder")
    values |= _read_encoder(encoder, width, activation) if encoder is not None else {}
    for part in filter(None, (decoder, layers, head, encoder)):
        section.dropped += part.finish()
    return values


def _dropout(section: NemoSection) -> float:
    """Ours has one rate for what the sublayers give."""
    rate = section.take("ffn_dropout", 0.0)
    section.drop("attn_layer_dropout")
    return float(rate)


def _read_encoder(section: NemoSection, width: int, activation: str) -> dict[str, Any]:
    count = section.take("num_layers")
    if count == 0:
        section.drop(*section.keys())
        return {}
    section.expect("_target_", f"{_MODULES}transformer_encoders.TransformerEncoder")
    section.expect("hidden_size", width)
    section.expect("hidden_act", activation) if "hidden_act" in section or activation != "relu" else None
    section.expect("mask_future", False)
    if section.take("pre_ln", False) is not True:
        raise CheckpointError("transf_encoder.pre_ln is False, which Sonant does not support; supported: True")
    section.expect("pre_ln_final_layer_norm", True)
    section.drop("attn_score_dropout", "attn_layer_dropout", "ffn_dropout")
    return {
        "transf_encoder_layers": count,
        "transf_encoder_heads": section.take("num_attention_heads", 1),
        "transf_encoder_d_ff": section.take("inner_size"),
    }


def _read_defaults(section: NemoSection) -> dict[str, Any]:
    """What NeMo's prompt of the user says; other roles are not asked anything here."""
    turns = section.take("prompt_defaults", None) or []
    slots = next((turn.get("slots") for turn in turns if turn.get("role") == "user"), None) or {}
    return {key: value for key, value in slots.items() if value is not None}


def write(config: AedConfig, d_in: int, vocabulary: list[str]) -> dict[str, Any]:
    """Our config to NeMo's sections, and what else of its document follows from it.

    Raises:
        CheckpointError: NeMo has no such heads without prompts.
    """
    if config.prompt_format == "none":
        raise CheckpointError("decoder.prompt_format is none, and NeMo's models of this kind always take prompts")
    size = 8 * -(-len(vocabulary) // 8)
    shared = {"hidden_size": config.d_model, "attn_score_dropout": config.dropout}
    rates = {"ffn_dropout": config.dropout, "attn_layer_dropout": config.dropout}
    return {
        "model_defaults": {"asr_enc_hidden": d_in, "lm_enc_hidden": config.d_model, "lm_dec_hidden": config.d_model},
        "transf_encoder": {
            "_target_": f"{_MODULES}transformer_encoders.TransformerEncoder",
            "num_layers": config.transf_encoder_layers,
            "inner_size": config.transf_encoder_d_ff,
            "num_attention_heads": config.transf_encoder_heads,
            "hidden_act": config.activation,
            "mask_future": False,
            "pre_ln": True,
            "pre_ln_final_layer_norm": True,
        }
        | shared
        | rates,
        "transf_decoder": {
            "_target_": f"{_MODULES}get_nemo_transformer",
            "model_name": None,
            "pretrained": False,
            "encoder": None,
            "pre_ln_final_layer_norm": True,
            "config_dict": {
                "max_sequence_length": config.max_positions,
                "num_token_types": 0,
                "embedding_dropout": config.embedding_dropout,
                "learn_positional_encodings": False,
                "inner_size": config.d_ff,
                "num_layers": config.n_layers,
                "num_attention_heads": config.n_heads,
                "hidden_act": config.activation,
                "pre_ln": True,
                "vocab_size": size,
            }
            | shared
            | rates,
        },
        "head": {
            "_target_": _HEAD,
            "num_layers": 1,
            "activation": "relu",
            "log_softmax": True,
            "hidden_size": config.d_model,
            "num_classes": size,
            "dropout": 0.0,
            "use_transformer_init": True,
        },
        "prompt_format": config.prompt_format,
        "prompt_defaults": [{"role": "user", "slots": dict(config.prompt_defaults)}] if config.prompt_defaults else None,
        "loss": {
            "_target_": "nemo.collections.common.losses.smoothed_cross_entropy.SmoothedCrossEntropyLoss",
            "label_smoothing": 0.0,
            "pad_id": 0,  # NeMo puts the tokenizer's in its place
        },
        "label_smoothing": 0.0,
    }


def _attention(theirs: str, ours: str) -> tuple[Rename, ...]:
    names = {"query_net": "q", "key_net": "k", "value_net": "v", "out_projection": "out"}
    return tuple(Rename(f"{theirs}.{their}.{{}}", f"{ours}.{our}.{{}}") for their, our in names.items())


def _feed_forward(theirs: str, ours: str) -> tuple[Rename, ...]:
    return Rename(f"{theirs}.dense_in.{{}}", f"{ours}.up.{{}}"), Rename(f"{theirs}.dense_out.{{}}", f"{ours}.down.{{}}")


def _tensors(_: Mapping[str, Any]) -> tuple[Rename, ...]:
    decoder, encoder = "transf_decoder._decoder.layers.{}", "transf_encoder.layers.{}"
    return (
        Rename("encoder_decoder_proj.{}", "proj.{}"),
        Rename("transf_decoder._embedding.token_embedding.weight", "embed.weight"),
        Rename("log_softmax.mlp.layer0.weight", "embed.weight"),
        Rename("log_softmax.mlp.layer0.bias", "bias"),
        Rename("transf_decoder._embedding.position_embedding.pos_enc", "positions"),
        Rename("transf_decoder._embedding.layer_norm.{}", "embed_norm.{}"),
        Rename("transf_decoder._decoder.final_layer_norm.{}", "norm.{}"),
        Rename("transf_encoder.final_layer_norm.{}", "transf_encoder_norm.{}"),
        Rename(f"{decoder}.layer_norm_1.{{}}", "layers.{}.norm_attn.{}"),
        Rename(f"{decoder}.layer_norm_2.{{}}", "layers.{}.norm_cross.{}"),
        Rename(f"{decoder}.layer_norm_3.{{}}", "layers.{}.norm_ff.{}"),
        *_attention(f"{decoder}.first_sub_layer", "layers.{}.attn"),
        *_attention(f"{decoder}.second_sub_layer", "layers.{}.cross"),
        *_feed_forward(f"{decoder}.third_sub_layer", "layers.{}.ff"),
        Rename(f"{encoder}.layer_norm_1.{{}}", "transf_encoder.{}.norm_attn.{}"),
        Rename(f"{encoder}.layer_norm_2.{{}}", "transf_encoder.{}.norm_ff.{}"),
        *_attention(f"{encoder}.first_sub_layer", "transf_encoder.{}.attn"),
        *_feed_forward(f"{encoder}.second_sub_layer", "transf_encoder.{}.ff"),
    )


MAPPING = ComponentMapping(
    read=read,
    write=write,
    tensors=_tensors,
    ignored=("transf_decoder._embedding.token_type_embedding.*", "transf_decoder._embedding.position_ids"),
)
