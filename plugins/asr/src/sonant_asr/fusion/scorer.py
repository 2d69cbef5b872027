"""What a language model or a list of phrases looks like to a search: something that scores the next token.

Shapes: `B` utterances, `R` rows (utterances, or utterances times beams), `V` labels without the blank.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor, device


@runtime_checkable
class TokenScorer(Protocol):
    """Scores every label that may come next, given the labels before. Shallow fusion: a search adds its scores to its own.

    The labels before are summed up in a state, an int64 number. A scorer holds nothing about an utterance, so that many searches
    and threads share it. A state never means the end: `advance` takes any state that `start` or `advance` gave.

    Scores are natural logarithms, or bonuses on that scale, and are multiplied with the scorer's weight already: a search adds
    them as they are. Several scorers are added one after the other. How a search uses them:

    - a label's log-probability, without the blank's, grows by its score; the blank is never scored, and moves no state;
    - a row that takes a label takes the state that stands at that label in `next_states`;
    - CTC: a repeated label, which the collapse removes, is not scored and moves no state;
    - the beam search of CTC adds a language model's `final` once for each hypothesis that is complete; phrases' is left out, and
      transducers add none, as in NeMo. Greedy searches have no use for it.
    """

    def start(self, batch: int, device: device | str) -> Tensor:
        """The state before the first label, for each of `batch` rows: `(B,)` int64 on `device`."""
        ...

    def advance(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """States `(R,)` to the scores `(R, V)` float32 of every label, and the states `(R, V)` int64 behind each."""
        ...

    def final(self, states: Tensor) -> Tensor:
        """States `(R,)` to the scores `(R,)` float32 of the text ending there."""
        ...

    def eos(self, states: Tensor, scores: Tensor) -> Tensor:
        """What the end token of an attention decoder gets: `(R,)`, from states `(R,)` and the scores `(R, V)` of `advance`.

        A language model gives its `final`. Phrases give at least what their best label gets, so that a bonus never keeps the
        decoder from ending.
        """
        ...
