"""Config of the task `asr`."""

from __future__ import annotations

from attrs import field, frozen


@frozen(kw_only=True)
class InterCtcConfig:
    """In training, CTC losses on layers within the encoder (Lee and Watanabe, 2021). The final loss has what weight is left."""

    apply_at_layers: list[int] = field(factory=list, metadata={"help": "layers of the encoder, the first of which is 0"})
    loss_weights: list[float] = field(
        factory=list, metadata={"help": "of the loss of each of these layers; below 1 together, and the final loss has the rest"}
    )

    def __attrs_post_init__(self) -> None:
        layers, weights = self.apply_at_layers, self.loss_weights
        if len(layers) != len(weights):
            raise ValueError(f"apply_at_layers names {len(layers)} layers, and loss_weights has {len(weights)} numbers")
        if len(set(layers)) != len(layers) or min(layers, default=0) < 0:
            raise ValueError(f"apply_at_layers {layers} must be numbers from 0, each once")
        if min(weights, default=0.0) < 0 or sum(weights) >= 1:
            raise ValueError(
                f"loss_weights {weights} must not be negative and add up to less than 1: what is left is the final loss's weight"
            )


@frozen(kw_only=True)
class AsrConfig:
    """How words and segments are told apart in what a search found."""

    word_separator: str = field(default=" ", metadata={"help": "between words, for tokenizers that write it"})
    segment_separators: list[str] = field(
        factory=lambda: [".", "!", "?"], metadata={"help": "a word that is or ends with one of these ends a segment"}
    )
    segment_gap: int | None = field(default=None, metadata={"help": "so many silent encoder frames end a segment too"})
    end_of_utterance: list[str] = field(
        factory=list, metadata={"help": "tokens that are no words but mark where an utterance ends, as <EOU>"}
    )
    aux_loss_weight: float = field(
        default=0.3, metadata={"help": "in training, of the second head's loss; that of the first has the rest, up to 1"}
    )
    interctc: InterCtcConfig = field(
        factory=InterCtcConfig,
        metadata={"help": "in training, losses of the CTC head on layers within the encoder: apply_at_layers and loss_weights"},
    )

    def __attrs_post_init__(self) -> None:
        if not 0 <= self.aux_loss_weight <= 1:
            raise ValueError(f"aux_loss_weight {self.aux_loss_weight} is not from 0 to 1")
