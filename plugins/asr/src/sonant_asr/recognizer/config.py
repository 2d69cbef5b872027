"""Config of the task `asr`."""

from __future__ import annotations

from attrs import field, frozen


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

    def __attrs_post_init__(self) -> None:
        if not 0 <= self.aux_loss_weight <= 1:
            raise ValueError(f"aux_loss_weight {self.aux_loss_weight} is not from 0 to 1")
