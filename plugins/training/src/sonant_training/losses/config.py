"""Configs of the losses. Field names follow NeMo's."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen

Reduction = Literal["mean_batch", "mean_volume", "mean", "sum"]


def _help(text: str) -> dict[str, str]:
    return {"help": text}


_REDUCTION = _help(
    "mean_batch: the mean over the utterances; mean_volume: the sum divided by the number of labels; "
    "mean: each utterance divided by its labels, then the mean; sum"
)
_ZERO_INFINITY = _help("an utterance too short for its labels counts as 0 and teaches nothing; false makes the loss infinite")


@frozen(kw_only=True)
class CtcLossConfig:
    """Connectionist temporal classification."""

    reduction: Reduction = field(default="mean_batch", metadata=_REDUCTION)
    zero_infinity: bool = field(default=True, metadata=_ZERO_INFINITY)


@frozen(kw_only=True)
class RnntLossConfig:
    """The loss of an RNN transducer."""

    reduction: Reduction = field(default="mean_batch", metadata=_REDUCTION)
    fastemit_lambda: float = field(
        default=0.0, metadata=_help("how much more gradient labels get than blanks, so that they come earlier (FastEmit)")
    )
    zero_infinity: bool = field(default=True, metadata=_ZERO_INFINITY)
    reuse_logits: bool = field(
        default=True,
        metadata=_help(
            "the gradient takes the place of the logits in memory, which `backward` then leaves overwritten; "
            "false keeps them and takes twice the memory"
        ),
    )

    def __attrs_post_init__(self) -> None:
        if not self.fastemit_lambda >= 0:
            raise ValueError(f"fastemit_lambda {self.fastemit_lambda} must be 0 or more")


@frozen(kw_only=True)
class TdtLossConfig(RnntLossConfig):
    """The loss of a token-and-duration transducer."""

    durations: list[int] = field(
        factory=lambda: [0, 1, 2, 3, 4], metadata=_help("frames that a label can span: those of the head, in its order")
    )
    sigma: float = field(
        default=0.0, metadata=_help("taken off the log-probability of every label and blank, which favours long durations")
    )
    omega: float = field(
        default=0.0, metadata=_help("the share of the batches on which the loss is that of a transducer without durations")
    )

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if not self.durations or min(self.durations) < 0 or len(set(self.durations)) < len(self.durations):
            raise ValueError(f"durations {self.durations} must be distinct numbers of frames, 0 or more")
        if max(self.durations) == 0:
            raise ValueError(f"durations {self.durations} must have one above 0, by which a blank moves on")
        if not self.sigma >= 0:
            raise ValueError(f"sigma {self.sigma} must be 0 or more")
        if not 0 <= self.omega <= 1:
            raise ValueError(f"omega {self.omega} must be from 0 to 1")


@frozen(kw_only=True)
class CrossEntropyConfig:
    """Cross entropy."""

    label_smoothing: float = field(
        default=0.0, metadata=_help("the probability that the target gives away, evenly to all other classes")
    )

    def __attrs_post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing {self.label_smoothing} must be at least 0 and below 1")


@frozen(kw_only=True)
class BceConfig:
    """Binary cross entropy."""

    pos_weight: float = field(default=1.0, metadata=_help("how much more what is present counts than what is absent"))

    def __attrs_post_init__(self) -> None:
        if not self.pos_weight > 0:
            raise ValueError(f"pos_weight {self.pos_weight} must be above 0")


@frozen(kw_only=True)
class AngularSoftmaxConfig:
    """Additive angular margin softmax."""

    scale: float = field(default=20.0, metadata=_help("what cosines are multiplied by before the softmax"))
    margin: float = field(default=1.35, metadata=_help("radians added to the angle of the right class"))

    def __attrs_post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"scale {self.scale} must be above 0")
        if not 0 <= self.margin < 3.141592653589793:
            raise ValueError(f"margin {self.margin} must be at least 0 and below pi")
