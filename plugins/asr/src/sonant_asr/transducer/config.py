"""Configs of the transducer heads and their search. Field names follow NeMo's."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen


def _help(text: str) -> dict[str, str]:
    return {"help": text}


@frozen(kw_only=True)
class RnntConfig:
    """Prediction network and joint network of a transducer."""

    pred_hidden: int = field(default=640, metadata=_help("width of the prediction network"))
    pred_rnn_layers: int = field(default=1, metadata=_help("LSTM layers of the prediction network"))
    joint_hidden: int = field(default=640, metadata=_help("width of the joint network"))
    activation: Literal["relu", "tanh", "sigmoid"] = field(default="relu", metadata=_help("of the joint network"))
    dropout: float = field(default=0.2, metadata=_help("in the prediction network"))
    joint_dropout: float = field(default=0.2, metadata=_help("in the joint network"))

    @property
    def durations(self) -> list[int]:
        """An RNN-T predicts none."""
        return []


@frozen(kw_only=True)
class TdtConfig(RnntConfig):
    """A transducer that also predicts durations."""

    durations: list[int] = field(factory=lambda: [0, 1, 2, 3, 4], metadata=_help("frames that a label can span"))

    def __attrs_post_init__(self) -> None:
        if not self.durations or min(self.durations) < 0 or len(set(self.durations)) < len(self.durations):
            raise ValueError(f"durations {self.durations} must be distinct numbers of frames, 0 or more")


@frozen(kw_only=True)
class TransducerGreedyConfig:
    """Greedy search."""

    max_symbols: int = field(default=10, metadata=_help("labels at one frame after which the search moves on"))

    def __attrs_post_init__(self) -> None:
        if self.max_symbols < 1:
            raise ValueError(f"max_symbols {self.max_symbols} must be at least 1")
