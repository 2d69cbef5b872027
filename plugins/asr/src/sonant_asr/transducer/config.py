"""Configs of the transducer heads and their searches. Field names follow NeMo's."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen

from sonant_asr.beams.config import check_beam
from sonant_asr.confidence.config import ConfidenceConfig
from sonant_asr.fusion.config import FusionConfig


def _help(text: str) -> dict[str, str]:
    return {"help": text}


def _check_max_symbols(number: int | None) -> None:
    if number is not None and number < 1:
        raise ValueError(f"max_symbols {number} must be at least 1")


@frozen(kw_only=True)
class RnntConfig:
    """Prediction network and joint network of a transducer."""

    prediction: Literal["lstm", "stateless"] = field(
        default="lstm",
        metadata=_help(
            "prediction network: an LSTM over all labels so far, or embeddings of the last ones (Ghodsi et al., 2020)"
        ),
    )
    pred_hidden: int = field(default=640, metadata=_help("width of the prediction network"))
    pred_rnn_layers: int = field(default=1, metadata=_help("LSTM layers of the prediction network"))
    context_size: int = field(default=2, metadata=_help("labels that a stateless prediction network looks back at"))
    normalization_mode: Literal["layer"] | None = field(
        default=None, metadata=_help("layer: a stateless prediction network's vectors are normalized")
    )
    joint: Literal["softmax", "hat"] = field(
        default="softmax",
        metadata=_help("joint network: one softmax over blank and labels, or the blank by itself (HAT; Variani et al., 2020)"),
    )
    joint_hidden: int = field(default=640, metadata=_help("width of the joint network"))
    activation: Literal["relu", "tanh", "sigmoid"] = field(default="relu", metadata=_help("of the joint network"))
    dropout: float = field(default=0.2, metadata=_help("in the prediction network"))
    joint_dropout: float = field(default=0.2, metadata=_help("in the joint network"))
    max_symbols: int = field(default=10, metadata=_help("labels at one frame after which the greedy search moves on"))

    def __attrs_post_init__(self) -> None:
        _check_max_symbols(self.max_symbols)
        if self.context_size < 1 or self.pred_hidden // 2 < self.context_size:
            raise ValueError(
                f"context_size {self.context_size} must be from 1 to half of pred_hidden, which is {self.pred_hidden}"
            )
        if self.normalization_mode is not None and self.prediction != "stateless":
            raise ValueError("normalization_mode needs prediction: stateless")

    @property
    def durations(self) -> list[int]:
        """An RNN-T predicts none."""
        return []


@frozen(kw_only=True)
class TdtConfig(RnntConfig):
    """A transducer that also predicts durations."""

    durations: list[int] = field(factory=lambda: [0, 1, 2, 3, 4], metadata=_help("frames that a label can span"))

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.joint == "hat":
            raise ValueError("joint: hat predicts no durations; it is for rnnt")
        if not self.durations or min(self.durations) < 0 or len(set(self.durations)) < len(self.durations):
            raise ValueError(f"durations {self.durations} must be distinct numbers of frames, 0 or more")


@frozen(kw_only=True)
class TransducerGreedyConfig:
    """Greedy search."""

    max_symbols: int | None = field(
        default=None, metadata=_help("labels at one frame after which the search moves on; null takes the head's")
    )
    fusion: FusionConfig = field(factory=FusionConfig, metadata=_help("a language model and phrases to listen to"))
    confidence: ConfidenceConfig | None = field(default=None, metadata=_help("how sure the head is, if that is wanted"))

    def __attrs_post_init__(self) -> None:
        _check_max_symbols(self.max_symbols)


@frozen(kw_only=True)
class TransducerBeamConfig:
    """Batched beam search. Field names and defaults follow NeMo's `malsd_batch`."""

    beam_size: int = field(default=4, metadata=_help("hypotheses kept at every step"))
    n_best: int = field(default=1, metadata=_help("hypotheses to give: the best, and as alternatives those that follow"))
    max_symbols: int = field(default=10, metadata=_help("labels at one frame after which a hypothesis moves on"))
    score_norm: bool = field(default=True, metadata=_help("compare finished hypotheses by score divided by labels and one"))
    pruning_mode: Literal["early", "late"] = field(
        default="late", metadata=_help("labels to try: by the model's scores alone, or with those of language model and phrases")
    )
    blank_lm_score_mode: Literal["no_score", "lm_weighted_full"] = field(
        default="lm_weighted_full",
        metadata=_help("the blank in fusion: left as it is, or kept as likely against the labels as before"),
    )
    fusion: FusionConfig = field(factory=FusionConfig, metadata=_help("a language model and phrases to listen to"))

    def __attrs_post_init__(self) -> None:
        check_beam(self.beam_size, self.n_best)
        if self.max_symbols < 1:
            raise ValueError(f"max_symbols {self.max_symbols} must be at least 1")


@frozen(kw_only=True)
class TransducerMaesConfig:
    """Modified adaptive expansion search. Field names and defaults follow NeMo's `maes`."""

    beam_size: int = field(default=4, metadata=_help("hypotheses kept at every frame"))
    n_best: int = field(default=1, metadata=_help("hypotheses to give: the best, and as alternatives those that follow"))
    score_norm: bool = field(default=True, metadata=_help("compare finished hypotheses by score divided by labels and one"))
    maes_num_steps: int = field(default=2, metadata=_help("labels at one frame"))
    maes_prefix_alpha: int = field(
        default=1, metadata=_help("labels by which a beginning may be shorter that adds to a longer text")
    )
    maes_expansion_beta: int = field(default=2, metadata=_help("labels tried for each hypothesis, beyond the size of the beam"))
    maes_expansion_gamma: float = field(
        default=2.3, metadata=_help("a label is tried if it is not worse than the best by more, in natural logarithms")
    )
    fusion: FusionConfig = field(factory=FusionConfig, metadata=_help("a language model and phrases to listen to"))

    def __attrs_post_init__(self) -> None:
        check_beam(self.beam_size, self.n_best)
        for name, least in (("maes_num_steps", 1), ("maes_prefix_alpha", 0), ("maes_expansion_beta", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} {getattr(self, name)} must be at least {least}")
        if not self.maes_expansion_gamma >= 0:
            raise ValueError(f"maes_expansion_gamma {self.maes_expansion_gamma} must be 0 or more")
