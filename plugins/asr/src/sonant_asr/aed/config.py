"""Configs of the attention encoder-decoder head and its searches."""

from __future__ import annotations

from typing import Any, Literal

from attrs import field, frozen

from sonant_asr.beams.config import check_beam
from sonant_asr.fusion.config import FusionConfig


def _help(text: str) -> dict[str, str]:
    return {"help": text}


def _fusion() -> FusionConfig:
    """NeMo's default for these heads: each token of a phrase counts the same."""
    return FusionConfig(depth_scaling=1.0)


@frozen(kw_only=True)
class AedConfig:
    """A Transformer decoder that attends to the encoder. `transf_encoder_layers` more layers may stand between the two."""

    d_model: int = field(default=1024, metadata=_help("width"))
    n_layers: int = field(default=24, metadata=_help("decoder layers"))
    n_heads: int = field(default=8, metadata=_help("attention heads; must divide d_model"))
    d_ff: int = field(default=4096, metadata=_help("feed-forward width"))
    activation: Literal["relu", "gelu"] = field(default="relu", metadata=_help("of the feed-forward layers"))
    max_positions: int = field(default=1024, metadata=_help("most tokens, the prompt included"))
    embedding_dropout: float = field(default=0.1, metadata=_help("of the embedded tokens"))
    dropout: float = field(default=0.1, metadata=_help("of each layer's outputs"))
    transf_encoder_layers: int = field(default=0, metadata=_help("Transformer layers behind the encoder"))
    transf_encoder_heads: int = field(default=8, metadata=_help("their attention heads; must divide d_model"))
    transf_encoder_d_ff: int = field(default=4096, metadata=_help("their feed-forward width"))
    prompt_format: Literal["none", "canary", "canary2"] = field(
        default="canary2", metadata=_help("how the model is told what to do; none: it is not, and a text begins with one token")
    )
    prompt_defaults: dict[str, Any] = field(
        factory=dict, metadata=_help("what a prompt says where nothing was asked: a token for each of its slots")
    )

    def __attrs_post_init__(self) -> None:
        if self.d_model % self.n_heads:
            raise ValueError(f"n_heads {self.n_heads} does not divide d_model {self.d_model}")
        if self.transf_encoder_layers and self.d_model % self.transf_encoder_heads:
            raise ValueError(f"transf_encoder_heads {self.transf_encoder_heads} does not divide d_model {self.d_model}")
        if self.d_model % 2:
            raise ValueError(f"d_model {self.d_model} must be even: a position is sines and cosines")


@frozen(kw_only=True)
class AedGreedyConfig:
    """Greedy search."""

    max_generation_delta: int | None = field(
        default=50, metadata=_help("most tokens beyond the number of encoder frames, the prompt included; none: as many as fit")
    )
    fusion: FusionConfig = field(factory=_fusion, metadata=_help("a language model and phrases to listen to"))

    def __attrs_post_init__(self) -> None:
        if self.max_generation_delta is not None and self.max_generation_delta < 0:
            raise ValueError(f"max_generation_delta {self.max_generation_delta} must be 0 or more, or none")


@frozen(kw_only=True)
class AedBeamConfig(AedGreedyConfig):
    """Beam search. Field names follow NeMo's."""

    beam_size: int = field(default=4, metadata=_help("texts that are written side by side"))
    len_pen: float = field(
        default=0.0, metadata=_help("a, where scores are divided by ((5 + length) / 6)^a; more favours long texts")
    )
    n_best: int = field(default=1, metadata=_help("hypotheses to give: the best, and as alternatives those that follow"))

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        check_beam(self.beam_size, self.n_best)
